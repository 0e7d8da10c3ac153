import t from 'tap';
import { containerd } from '#wire';

const { CreateTaskRequest, ExecProcessRequest, UpdateTaskRequest } = containerd.task;

void t.test(
  'bytes cut off anywhere are an error, or a shorter message at a field’s end, but never a wrong one',
  (t) => {
    const whole = {
      id: 'web-1',
      execId: 'e',
      terminal: true,
      stdin: '/in',
      spec: { typeUrl: 't', value: Buffer.from('v') },
    };
    const bytes = ExecProcessRequest.encode(whole).finish();
    let errors = 0;
    for (let end = 0; end < bytes.length; end++) {
      try {
        const { id, execId, stdin } = ExecProcessRequest.decode(bytes.subarray(0, end));
        t.ok(
          ['', whole.id].includes(id) &&
            ['', whole.execId].includes(execId) &&
            ['', whole.stdin].includes(stdin),
        );
      } catch (error) {
        t.type(error, Error);
        errors++;
      }
    }
    t.equal(errors, bytes.length - 5, 'only the starts of the five fields are whole messages');
    t.end();
  },
);

void t.test('fields of a later containerd are skipped', (t) => {
  const later = Buffer.from('0a01 61 ba3e0178 c03e01 1201 62'.replaceAll(' ', ''), 'hex');
  const { id, bundle } = CreateTaskRequest.decode(later);
  t.same([id, bundle], ['a', 'b']);
  t.end();
});

void t.test('a field of an unexpected wire type is skipped', (t) => {
  const { id, bundle } = CreateTaskRequest.decode(Buffer.from('0805120162', 'hex'));
  t.same([id, bundle], ['', 'b']);
  t.end();
});

void t.test('a map key cannot reach the prototype', (t) => {
  const annotations = Object.fromEntries([['__proto__', 'x']]);
  const decoded = UpdateTaskRequest.decode(UpdateTaskRequest.encode({ annotations }).finish());
  t.same(Object.entries(decoded.annotations), [['__proto__', 'x']]);
  t.equal(Object.getPrototypeOf(decoded.annotations), Object.prototype);
  t.end();
});
