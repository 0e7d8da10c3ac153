import t from 'tap';
t.pass('hello');
