import t from 'tap';
import { adoptedNics, atBoot, changedAddresses, sameCards, told } from '../../../src/vm/adopted-nics.ts';
import type { MirroredNicPlan, TapNicPlan } from '../../../src/vm/nic-plan.ts';

const guest = (mac: string, address: string): MirroredNicPlan['guest'] => ({
  ifName: 'eth0',
  mac,
  mtu: 1500,
  addresses: [{ address, prefixLength: 24, gateway: '10.1.0.1' }],
  routes: [],
  dns: { nameservers: [], search: [] },
});
const common = { tap: 'vm0', guarded: true, router6: undefined };
const beside = (netns: string, mac: string, address: string): MirroredNicPlan => ({
  ...common,
  kind: 'netns',
  netns,
  guest: guest(mac, address),
});
const onNode = (mac: string, address: string): TapNicPlan => ({
  ...common,
  kind: 'tap',
  attachment: { kind: 'bridge', bridge: 'br0' },
  bandwidth: undefined,
  guest: guest(mac, address),
});
const [FIRST, SECOND, THIRD] = ['02:00:00:00:00:01', '02:00:00:00:00:02', '02:00:00:00:00:03'];
const had = beside('/run/netns/a', FIRST, '10.1.0.2');

void t.test('what a new sandbox changes makes no other cards', (t) => {
  t.equal(sameCards([had], [beside('/run/netns/b', SECOND, '10.1.0.3')]), true);
  t.equal(sameCards([had], [{ ...had, guest: { ...had.guest, mtu: 1450 } }]), false, 'the guest has it');
  t.equal(sameCards([had], [{ ...had, guest: { ...had.guest, ifName: 'net1' } }]), false);
  t.equal(sameCards([had], [{ ...had, guarded: false }]), false);
  t.equal(sameCards([had], [had, { ...had, tap: 'vm1' }]), false);
  t.equal(sameCards([had], [onNode(FIRST, '10.1.0.2')]), false);
  t.equal(sameCards([onNode(FIRST, '10.1.0.2')], [onNode(FIRST, '10.1.0.2')]), true);
  t.equal(sameCards([onNode(FIRST, '10.1.0.2')], [onNode(FIRST, '10.1.0.3')]), false, 'vm-tap keeps them');
  t.end();
});

void t.test('the guest keeps its MAC address and gets the new IP addresses', (t) => {
  const wanted = beside('/run/netns/b', SECOND, '10.1.0.3');
  const [nic] = adoptedNics([had], [wanted]);
  const guest = { ...wanted.guest, mac: FIRST };
  t.same(nic, { ...wanted, guest, linkMac: SECOND, bootedWith: ['10.1.0.2/24'], untold: true });
  t.same(changedAddresses([nic!]), [{ card: 'eth0', booted: '10.1.0.2/24', now: '10.1.0.3/24' }]);

  const [again] = adoptedNics([told(nic!)], [beside('/run/netns/c', THIRD, '10.1.0.4')]);
  t.match(again, { guest: { mac: FIRST }, linkMac: THIRD, bootedWith: ['10.1.0.2/24'], untold: true });
  const [back] = adoptedNics([told(nic!)], [beside('/run/netns/c', THIRD, '10.1.0.2')]);
  t.match(
    back,
    { bootedWith: undefined, untold: true },
    'as it booted, but it has been told of others since',
  );
  t.match(atBoot(nic!), { linkMac: SECOND, bootedWith: undefined, untold: undefined });
  t.end();
});

void t.test('where nothing has changed there is nothing to tell', (t) => {
  const [nic] = adoptedNics([had], [beside('/run/netns/b', SECOND, '10.1.0.2')]);
  t.match(nic, { linkMac: SECOND, bootedWith: undefined, untold: undefined });
  t.same(changedAddresses([nic!]), []);
  const [pending] = adoptedNics([{ ...had, untold: true }], [beside('/run/netns/b', SECOND, '10.1.0.2')]);
  t.match(pending, { untold: true }, 'a shim has died before it told');
  t.end();
});

void t.test('in a sandbox that is still the same one the link has the guest’s address', (t) => {
  const [nic] = adoptedNics([had], [beside('/run/netns/b', SECOND, '10.1.0.2')]);
  const [same] = adoptedNics([nic!], [beside('/run/netns/b', FIRST, '10.1.0.2')]);
  t.match(same, { guest: { mac: FIRST }, linkMac: SECOND }, 'its own one is not forgotten');
  t.end();
});
