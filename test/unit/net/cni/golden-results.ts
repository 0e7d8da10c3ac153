/** What vm-tap answers to ADD with `IPAM_ANSWER`, per version; `NETNS`, `TAP` and `TAIL` stand for what the test fills in. */
const V4 = { address: '10.1.0.5/24', gateway: '10.1.0.1' };
const V6 = { address: 'fd00:1::5/64', gateway: 'fd00:1::1' };
const ROUTES = [
  { dst: '10.96.0.0/12', gw: '10.1.0.1' },
  { dst: '0.0.0.0/0', gw: '10.1.0.1' },
  { dst: '::/0', gw: 'fd00:1::1' },
];
const DNS = { nameservers: ['10.96.0.10'], domain: 'cluster.local', search: ['svc.cluster.local'] };
const POD = { name: 'eth0', mac: '52:TAIL', sandbox: 'NETNS' };
const HOST = { name: 'TAP', mac: 'fe:TAIL' };

export const GOLDEN_RESULTS = {
  '0.3.1': {
    cniVersion: '0.3.1',
    interfaces: [POD, HOST],
    ips: [
      { version: '4', interface: 0, ...V4 },
      { version: '6', interface: 0, ...V6 },
    ],
    routes: ROUTES,
    dns: DNS,
  },
  '0.4.0': {
    cniVersion: '0.4.0',
    interfaces: [POD, HOST],
    ips: [
      { version: '4', interface: 0, ...V4 },
      { version: '6', interface: 0, ...V6 },
    ],
    routes: ROUTES,
    dns: DNS,
  },
  '1.0.0': {
    cniVersion: '1.0.0',
    interfaces: [POD, HOST],
    ips: [
      { interface: 0, ...V4 },
      { interface: 0, ...V6 },
    ],
    routes: ROUTES,
    dns: DNS,
  },
  '1.1.0': {
    cniVersion: '1.1.0',
    interfaces: [
      { ...POD, mtu: 1400 },
      { ...HOST, mtu: 1400 },
    ],
    ips: [
      { interface: 0, ...V4 },
      { interface: 0, ...V6 },
    ],
    routes: ROUTES,
    dns: DNS,
  },
};
