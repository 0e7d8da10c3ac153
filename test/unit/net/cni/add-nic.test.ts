import t from 'tap';
import { deriveMac } from '../../../../src/net/cni/guest-mac.ts';
import { readHandovers } from '../../../../src/net/handover.ts';
import { ANSWER_ADD, bridgeNetwork, callPlugin, SANDBOX } from './support/call-plugin.ts';
import { NodeTree } from './support/node-tree.ts';

void t.test('which MAC address and MTU win', async (t) => {
  const host = new NodeTree(t).putBridge('br0', { mtu: 1400 });
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const mac = async (more: object, args?: string): Promise<unknown> => {
    const { answer } = await callPlugin(
      host,
      'ADD',
      bridgeNetwork(host, more),
      args === undefined ? {} : { CNI_ARGS: args },
    );
    await callPlugin(host, 'DEL', bridgeNetwork(host));
    return (answer as { interfaces: { mac: string; mtu: number }[] }).interfaces[0];
  };
  t.match(await mac({}, ''), { mac: deriveMac(SANDBOX, 'eth0'), mtu: 1400 });
  t.match(await mac({ mtu: 1300 }, 'MAC=02:00:00:00:00:03'), { mac: '02:00:00:00:00:03', mtu: 1300 });
  t.match(await mac({ runtimeConfig: { mac: '02:00:00:00:00:01' } }, 'MAC=02:00:00:00:00:03'), {
    mac: '02:00:00:00:00:01',
  });
});

void t.test('the MAC address that the pod’s annotation asks for is its first NIC’s', async (t) => {
  const host = new NodeTree(t).putBridge('br0');
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const annotations = { 'vmshim.io/mac': '02:00:00:00:00:AB', 'example.test/other': 'x' };
  const network = bridgeNetwork(host, {
    runtimeConfig: { 'io.kubernetes.cri.pod-annotations': annotations },
  });
  const first = await callPlugin(host, 'ADD', network);
  t.match(first.answer, { interfaces: [{ mac: '02:00:00:00:00:ab' }, {}] });
  const second = await callPlugin(host, 'ADD', network, { CNI_IFNAME: 'net1' });
  t.match(second.answer, { interfaces: [{ mac: deriveMac('uid-1', 'net1') }, {}] });
  const asked = { ...network, args: { cni: { mac: '02:00:00:00:00:cd' } } };
  t.match((await callPlugin(host, 'ADD', asked, { CNI_CONTAINERID: 'other' })).answer, {
    interfaces: [{ mac: '02:00:00:00:00:cd' }, {}],
  });
});

void t.test('a port’s VLANs and flags go to the shim', async (t) => {
  const host = new NodeTree(t).putBridge('br0', { filtersVlans: true });
  host.putPlugin('fake-ipam', ANSWER_ADD);
  const trunk = [{ id: 20 }, { minID: 30, maxID: 32 }];
  const network = bridgeNetwork(host, { vlan: 7, trunk, isolated: true, hairpin: true });
  t.equal((await callPlugin(host, 'ADD', network)).status, 0);
  const ranges = [
    { minID: 20, maxID: 20 },
    { minID: 30, maxID: 32 },
  ];
  const port = { vlan: 7, trunk: ranges, isolated: true, hairpin: true };
  t.strictSame(readHandovers(host, host.stateDir, SANDBOX)[0]?.attachment, {
    kind: 'bridge',
    bridge: 'br0',
    port,
  });
});
