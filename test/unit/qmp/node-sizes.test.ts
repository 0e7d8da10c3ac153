import t from 'tap';
import { queryNodeSizes } from '../../../src/qemu/node-sizes.ts';

const asked: unknown[] = [];
const qmp = (reply: unknown): Parameters<typeof queryNodeSizes>[0] => ({
  execute: (...call) => {
    asked.push(call.slice(0, 2));
    return Promise.resolve(reply);
  },
});

void t.test('the bytes of every node, by its name', async (t) => {
  const reply = [
    { 'node-name': 'volume-db', drv: 'raw', image: { 'virtual-size': 33_554_432, filename: 'json:{}' } },
    { 'node-name': 'file-db', drv: 'rbd', image: { 'virtual-size': 33_554_433, filename: 'json:{}' } },
  ];
  t.same(Object.fromEntries(await queryNodeSizes(qmp(reply))), {
    'volume-db': 33_554_432,
    'file-db': 33_554_433,
  });
  t.same(asked, [['query-named-block-nodes', { flat: true }]]);
});

void t.test('an answer of another shape is an error that shows it', async (t) => {
  for (const odd of [
    {},
    [1],
    [{ 'node-name': 'x' }],
    [{ 'node-name': 'x', image: {} }],
    [{ image: { 'virtual-size': 1 } }],
  ])
    await t.rejects(queryNodeSizes(qmp(odd)), {
      name: 'VmError',
      kind: 'Internal',
      message: /query-named-block-nodes" with [[{]/,
    });
});
