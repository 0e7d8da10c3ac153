import fc from 'fast-check';
import t from 'tap';
import { parseResolvConf } from '../../../src/net/resolv-conf.ts';

void t.test('the file that kubelet has containerd write', (t) => {
  const text =
    'search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n';
  t.same(parseResolvConf(text), {
    dns: {
      nameservers: ['10.96.0.10'],
      search: ['shop.svc.cluster.local', 'svc.cluster.local', 'cluster.local'],
      options: ['ndots:5'],
    },
    omissions: [],
  });
  t.end();
});

void t.test('of search and domain the last one counts, the rest adds up', (t) => {
  const { dns } = parseResolvConf(
    [
      '# a comment',
      '; another',
      'domain a.test',
      'search b.test\tc.test ',
      'nameserver FD00::A',
      'nameserver 10.0.0.1 # no comment here, but nobody reads on',
      'nameserver 10.0.0.1',
      'options ndots:2 edns0',
      'options rotate',
      'sortlist 10.0.0.0/8',
      ' nameserver 10.0.0.9',
      'nameservers 10.0.0.8',
    ].join('\r\n'),
  );
  t.same(dns, {
    nameservers: ['fd00::a', '10.0.0.1'],
    search: ['b.test', 'c.test'],
    options: ['ndots:2', 'edns0', 'rotate'],
  });
  t.same(parseResolvConf('search a.test\ndomain b.test').dns.search, ['b.test']);
  t.same(parseResolvConf('search a.test\nsearch').dns.search, []);
  t.same(parseResolvConf('search .').dns, { nameservers: [], search: [] }, 'as systemd-resolved has it');
  t.end();
});

void t.test('servers that a guest cannot reach are left out, with a word', (t) => {
  const lines = ['127.0.0.53', '::1', 'fe80::1%eth0', '', 'dns.test', '10.0.0.1'];
  const { dns, omissions } = parseResolvConf(lines.map((server) => `nameserver ${server}\n`).join(''));
  t.same(dns.nameservers, ['10.0.0.1']);
  t.equal(omissions.length, 5);
  t.equal(omissions[0], 'name server "127.0.0.53" of resolv.conf is of no use to a guest');
  t.end();
});

void t.test('any text is a configuration', (t) => {
  const word = fc.constantFrom('nameserver', 'search', 'options', '10.0.0.1', ' ', '\n', '\0', '::', '…');
  fc.assert(fc.property(fc.array(word), (words) => void parseResolvConf(words.join(' '))));
  t.end();
});
