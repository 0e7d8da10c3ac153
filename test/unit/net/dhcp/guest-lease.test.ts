import t from 'tap';
import { planGuestLease } from '../../../../src/net/dhcp/guest-lease.ts';
import type { GuestInterface } from '../../../../src/net/guest-network.ts';
import { bridged, routed } from './guests.ts';

void t.test('the server identifier is an address that answers ARP, where there is one', (t) => {
  const serverId = (guest: GuestInterface): string | undefined =>
    planGuestLease(guest).v4?.serverId.join('.');
  t.equal(serverId(bridged), '10.1.2.1');
  t.equal(serverId(routed), '169.254.1.1');
  t.equal(serverId({ ...bridged, routes: [] }), '169.254.0.67');
  t.equal(
    serverId({ ...bridged, routes: [{ destination: '10.9.0.0/16', gateway: '10.1.2.9' }] }),
    '10.1.2.9',
  );
  t.equal(
    serverId({ ...bridged, routes: [{ destination: '0.0.0.0/0', gateway: '10.1.2.3' }] }),
    '169.254.0.67',
  );
  t.end();
});

void t.test('option 121 only where the router option is not enough', (t) => {
  const count = (guest: GuestInterface): number | undefined =>
    planGuestLease(guest).v4?.classlessRoutes.length;
  t.equal(count(bridged), 0);
  t.equal(count({ ...bridged, routes: [] }), 0);
  t.equal(
    count({ ...bridged, routes: [{ destination: '0.0.0.0/0', gateway: undefined }] }),
    1,
    'all is on-link',
  );
  t.equal(count(routed), 3, 'the gateway once, and two routes by it');
  t.equal(
    count({ ...routed, routes: [{ destination: '169.254.1.1/32', gateway: undefined }, ...routed.routes] }),
    3,
  );
  t.end();
});

void t.test('our MAC address is never the guest’s', (t) => {
  const { mac, serverMac } = planGuestLease({ ...bridged, mac: '02:76:6D:00:00:01' });
  t.notSame(mac, serverMac);
  t.end();
});

void t.test('an interface that makes no sense is refused by field and value', (t) => {
  const refused = (guest: Partial<GuestInterface>, message: RegExp): void =>
    void t.throws(() => planGuestLease({ ...bridged, ...guest }), {
      name: 'VmError',
      kind: 'InvalidArgument',
      message,
    });
  const address = (text: string, prefixLength = 24, gateway?: string): Partial<GuestInterface> => ({
    addresses: [{ address: text, prefixLength, gateway }],
  });
  const route = (destination: string, gateway?: string): Partial<GuestInterface> => ({
    routes: [{ destination, gateway }],
  });
  refused({ mac: '52:54:00:12:34' }, /^mac of the guest’s interface eth0 is "52:54:00:12:34", and must be/);
  refused({ mac: '53:54:00:12:34:56' }, /unicast/);
  refused({ mac: '00:00:00:00:00:00' }, /unicast/);
  refused({ mtu: 67 }, /^mtu .* is 67, and must be a number of bytes from 68 to 65535/);
  refused({ mtu: 1500.5 }, /mtu/);
  refused(address('10.1.2'), /addresses\.address .* "10\.1\.2\/24"/);
  refused(address('10.1.2.3', 33), /addresses\.address .* "10\.1\.2\.3\/33"/);
  refused(route('10.0.0.0', '10.1.2.1'), /routes\.destination .* "10\.0\.0\.0"/);
  refused(route('10.0.0.0/8', 'fe80::1'), /routes\.gateway .* "fe80::1"/);
  refused({ dns: { nameservers: ['dns'], search: [] } }, /dns\.nameservers .* "dns"/);
  refused({ dns: { nameservers: [], search: ['a..b'] } }, /dns\.search .* "a\.\.b"/);
  t.throws(() => planGuestLease(bridged, { hostname: 'a b' }), { message: /^hostname .* "a b"/ });
  t.throws(() => planGuestLease(bridged, { nodeMac: 'x' }), { message: /^nodeMac .* "x"/ });
  t.end();
});
