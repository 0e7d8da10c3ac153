import t from 'tap';
import { LinuxHost } from '../../../../src/host/linux-host.ts';
import { execInNetns, runBatch } from '../../../../src/net/ip-command.ts';

const host = new LinuxHost();

void t.test('the command that failed is named', async (t) => {
  // Both only read.
  const batch = runBatch(host, 'ip', undefined, [
    ['link', 'show', 'dev', 'lo'],
    ['link', 'show', 'dev', 'vst-none'],
    ['link', 'show', 'dev', 'lo'],
  ]);
  await t.rejects(batch, {
    kind: 'Internal',
    message: 'ip link show dev vst-none: Device "vst-none" does not exist.',
  });
});

void t.test('a word is a word', async (t) => {
  for (const word of ['', 'a b', 'a\nb', '#', '"', '\\']) {
    await t.rejects(runBatch(host, 'ip', undefined, [['link', 'show', word]]), {
      kind: 'InvalidArgument',
      message: /use/,
    });
  }
  await runBatch(host, 'ip', undefined, []);
});

void t.test('an aborted command says so', async (t) => {
  const signal = AbortSignal.abort();
  await t.rejects(runBatch(host, 'tc', undefined, [['qdisc', 'show']], signal), {
    kind: 'Canceled',
    message: /tc/,
  });
});

void t.test('a namespace that is not there is an error of nsenter', async (t) => {
  await t.rejects(execInNetns(host, '/run/netns/vst-none', 'true', []), {
    kind: 'Internal',
    message: /vst-none/,
  });
});
