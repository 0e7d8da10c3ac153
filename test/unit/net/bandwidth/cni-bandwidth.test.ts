import t from 'tap';
import { describeBandwidth } from '../../../../src/net/bandwidth.ts';
import { parseBandwidth } from '../../../../src/net/cni/cni-bandwidth.ts';
import { CNI_CODE, CniError } from '../../../../src/net/cni/cni-error.ts';
import { JsonField } from '../../../../src/net/cni/json-field.ts';

function parse(value: unknown): ReturnType<typeof parseBandwidth> {
  return parseBandwidth(new JsonField(value, 'it', (sentence) => new CniError(CNI_CODE.config, sentence)));
}

void t.test('rates and bursts, in the letters of the conventions and of containerd', (t) => {
  const limit = { bitsPerSecond: 1_000_000, burstBytes: 250_000 };
  t.same(parse({ ingressRate: 1e6, ingressBurst: 2e6 }), { received: limit, sent: undefined });
  t.same(parse({ EgressRate: 1e6, EgressBurst: 2e6, IngressRate: 0, IngressBurst: 0 }), {
    received: undefined,
    sent: limit,
  });
  for (const nothing of [undefined, {}, { ingressRate: 0, egressBurst: 5 }])
    t.equal(parse(nothing), undefined);
  t.equal(parse({ ingressRate: 1009 })?.received?.bitsPerSecond, 1008, 'whole bytes, as the kernel counts');
  t.end();
});

void t.test('a burst that nobody chose is a tenth of a second', (t) => {
  for (const ingressBurst of [undefined, 0, 2 ** 32 - 1, 2 ** 31 - 1]) {
    t.equal(parse({ ingressRate: 1e9, ingressBurst })?.received?.burstBytes, 12_500_000);
    t.equal(parse({ ingressRate: 1e6, ingressBurst })?.received?.burstBytes, 131_072, 'two large segments');
  }
  t.equal(parse({ ingressRate: 1e6, ingressBurst: 12 })?.received?.burstBytes, 2);
  t.end();
});

void t.test('what makes no sense is refused', (t) => {
  for (const [value, message] of [
    [{ ingressRate: 999 }, /^ingressRate of it must be 0 for no limit, or at least 1000 bit\/s, but is 999/],
    [{ egressRate: -1 }, /^egressRate of it must be a whole number/],
    [{ EgressRate: '1M' }, /^EgressRate of it .*"1M"/],
    [{ egressRate: 1e6, egressBurst: 2 ** 36 }, /^egressBurst/],
    [{ shapedSubnets: ['10.0.0.0/8'] }, /^shapedSubnets of it must be empty/],
    [7, /object/],
  ] as const) {
    t.throws(() => parse(value), { message });
  }
  t.end();
});

void t.test('limits in words', (t) => {
  const limit = { bitsPerSecond: 8000, burstBytes: 1 };
  t.equal(describeBandwidth(undefined), 'none');
  t.equal(describeBandwidth({ received: limit, sent: limit }), 'received 8000 bit/s, sent 8000 bit/s');
  t.end();
});
