import t from 'tap';
import { renderTable } from '../../../src/control/table.ts';

void t.test('columns as wide as their widest cell', (t) => {
  t.equal(renderTable(['ID', 'STATE'], []), 'ID  STATE\n');
  t.equal(
    renderTable(['ID', 'STATE', 'PID'], [['long-name', 'up', '7'], ['x', 'running', ''], ['y']]),
    'ID         STATE    PID\nlong-name  up       7\nx          running\ny\n',
  );
  t.end();
});
