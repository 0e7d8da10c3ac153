import t from 'tap';
import { io } from '#wire-metrics';
import { containerd as sandboxApi, runtime as cri } from '#wire-sandbox';
import { containerd, google, runtimeoptions, vmshim } from '#wire';

// Messages and fields that are newer than the containerd Debian packages, byte by byte: each field holds one letter or
// digit, so that its number can be read off. test/integration/proto-equality.test.ts covers all others.

interface Codec {
  encode(message: object): { finish(): Uint8Array };
  decode(bytes: Uint8Array): object;
}
type Case = readonly [codec: Codec, message: object, hex: string];

const { bootstrap } = containerd.runtime;
const { sandbox } = sandboxApi.runtime;
const { cgroups } = io.containerd;

const any = (typeUrl: string): google.protobuf.Any.$Properties => ({ typeUrl });
const at = (seconds: number): google.protobuf.Timestamp.$Properties => ({ seconds });
const id = { sandboxId: 'i' };

const CASES: readonly Case[] = [
  [
    bootstrap.v1.BootstrapParams,
    {
      ...{
        instanceId: '1',
        namespace: '2',
        logLevel: bootstrap.v1.LogLevel.LOG_LEVEL_WARN,
        containerdVersion: '4',
      },
      ...{ containerdTtrpcAddress: '5', containerdGrpcAddress: '6', containerdBinary: '7' },
      ...{ extensions: [{ value: any('8') }, { value: any('9') }], socketDir: '9' },
    },
    '0a0131 120132 1804 220134 2a0135 320136 3a0137 42050a030a0138 42050a030a0139 4a0139',
  ],
  [
    bootstrap.v1.BootstrapResult,
    { version: 3, address: '2', protocol: '3', capabilities: [0], metadata: { k: 'v' } },
    '0803 120132 1a0133 220100 2a060a016b120176',
  ],
  [
    containerd.types.RuntimeInfo,
    {
      ...{ name: '1', version: { version: 'v', revision: 'r' } },
      ...{ options: any('3'), features: any('4'), annotations: { k: 'v' } },
    },
    '0a0131 12060a0176120172 1a030a0133 22030a0134 2a060a016b120176',
  ],
  [
    runtimeoptions.v1.Options,
    { typeUrl: '1', configPath: '2', configBody: Buffer.from('3') },
    '0a0131 120132 1a0133',
  ],
  [
    sandbox.v1.CreateSandboxRequest,
    {
      ...{ sandboxId: '1', bundlePath: '2', rootfs: [{ type: '3' }], options: any('4') },
      ...{ netnsPath: '5', annotations: { k: 'v' } },
    },
    '0a0131 120132 1a030a0133 22030a0134 2a0135 32060a016b120176',
  ],
  [sandbox.v1.CreateSandboxResponse, {}, ''],
  [sandbox.v1.StartSandboxRequest, id, '0a0169'],
  [sandbox.v1.StartSandboxResponse, { pid: 1, createdAt: at(2), spec: any('3') }, '0801 12020802 1a030a0133'],
  [sandbox.v1.PlatformRequest, id, '0a0169'],
  [
    sandbox.v1.PlatformResponse,
    { platform: { os: '1', architecture: '2', variant: '3' } },
    '0a09 0a0131 120132 1a0133',
  ],
  [sandbox.v1.StopSandboxRequest, { ...id, timeoutSecs: 2 }, '0a0169 1002'],
  [sandbox.v1.StopSandboxResponse, {}, ''],
  [sandbox.v1.WaitSandboxRequest, id, '0a0169'],
  [sandbox.v1.WaitSandboxResponse, { exitStatus: 137, exitedAt: at(2) }, '088901 12020802'],
  [sandbox.v1.SandboxStatusRequest, { ...id, verbose: true }, '0a0169 1001'],
  [
    sandbox.v1.SandboxStatusResponse,
    {
      ...{ sandboxId: '1', pid: 2, state: 'SANDBOX_READY', info: { k: 'v' } },
      ...{ createdAt: at(5), exitedAt: at(6), extra: any('7') },
    },
    '0a0131 1002 1a0d53414e44424f585f5245414459 22060a016b120176 2a020805 32020806 3a030a0137',
  ],
  [sandbox.v1.PingRequest, id, '0a0169'],
  [sandbox.v1.PingResponse, {}, ''],
  [sandbox.v1.ShutdownSandboxRequest, id, '0a0169'],
  [sandbox.v1.ShutdownSandboxResponse, {}, ''],
  [sandbox.v1.SandboxMetricsRequest, id, '0a0169'],
  [
    sandbox.v1.SandboxMetricsResponse,
    { metrics: { timestamp: at(1), id: '2', data: any('3') } },
    '0a0c 0a020801 120132 1a030a0133',
  ],
  [
    cri.v1.PodSandboxConfig,
    {
      ...{ metadata: { name: '1', uid: '2', namespace: '3', attempt: 4 }, hostname: '2' },
      ...{ dnsConfig: { servers: ['1'], searches: ['2'], options: ['3'] } },
      portMappings: [{ protocol: cri.v1.Protocol.UDP, containerPort: 2, hostPort: 3, hostIp: '4' }],
      ...{ labels: { k: 'v' }, annotations: { k: 'v' } },
      linux: {
        cgroupParent: '1',
        overhead: { cpuPeriod: 1, cpuQuota: 2, cpuShares: 3, memoryLimitInBytes: 4 },
        resources: { cpusetCpus: '6', cpusetMems: '7' },
      },
    },
    '0a0b 0a0131 120132 1a0133 2004 120132 2209 0a0131 120132 1a0133 2a09 0801 1002 1803 220134' +
      '32060a016b120176 3a060a016b120176 4215 0a0131 2208 0801 1002 1803 2004 2a06 320136 3a0137',
  ],
  [
    cgroups.v2.Metrics,
    {
      cpu: {
        psi: { some: { total: 4 }, full: { avg10: 0.5, avg60: 0.5, avg300: 0.5 } },
        nrBursts: 8,
        burstUsec: 9,
      },
      memory: {
        maxUsage: 36,
        swapMaxUsage: 37,
        psi: {},
        workingsetRefaultAnon: 39,
        workingsetActivateFile: 42,
      },
      io: { psi: {} },
      hugetlb: [{ failcnt: 4 }],
      memoryEvents: { oomKill: 5, oomGroupKill: 6 },
      network: [{ name: '1', rxBytes: 2, txBytes: 6, txDropped: 9 }],
    },
    '1227 3a21 0a022004 121b 09000000000000e03f 11000000000000e03f 19000000000000e03f 4008 4809' +
      '220f a00224 a80225 b20200 b80227 d0022a 32021200 3a022004 42042805 3006 4a09 0a0131 1002 3006 4809',
  ],
  // The `delete` command's answer as runc's shim prints it: pid 89, status 137.
  [
    containerd.task.DeleteResponse,
    { pid: 89, exitStatus: 137, exitedAt: { seconds: 1_790_000_000, nanos: 5 } },
    '0859 108901 1a08 0880f7c4d506 1005',
  ],
  // Our own API must not move either: an old vmctl meets a new shim.
  [
    vmshim.control.v1.StatusResponse,
    {
      ...{ id: '1', namespace: '2', name: '3', state: '4', shimPid: 5, qemuPid: 6, vcpus: 7, memoryBytes: 8 },
      ...{
        machine: '9',
        accel: 'a',
        accelReason: 'b',
        firmware: 'c',
        network: 'd',
        uuid: 'e',
        rootDisk: 'f',
      },
      ...{
        consoleLog: 'g',
        createdAtMs: 17,
        startedAtMs: 18,
        exitedAtMs: 19,
        exitStatus: 20,
        exitReason: 'h',
      },
      ...{
        warnings: ['i'],
        timeline: [{ name: 'j', atMs: 0.5 }],
        shimVersion: 'k',
        bundle: 'l',
        qemuVersion: 'm',
      },
    },
    '0a0131 120132 1a0133 220134 2805 3006 3807 4008 4a0139 520161 5a0162 620163 6a0164 720165 7a0166' +
      '82010167 880111 900112 980113 a00114 aa010168 b2010169 ba010c 0a016a 11000000000000e03f c201016b ca01016c d201016d',
  ],
  [vmshim.control.v1.StatusRequest, {}, ''],
  [vmshim.control.v1.ConsoleRequest, { replayBytes: 1 }, '0801'],
  [vmshim.control.v1.ConsoleInput, { data: Buffer.from('1'), width: 2, height: 3 }, '0a0131 1002 1803'],
  [vmshim.control.v1.ConsoleOutput, { data: Buffer.from('1') }, '0a0131'],
];

/** Without classes, so that a decoded message compares to the literal it came from. */
const plain = (message: object): unknown => JSON.parse(JSON.stringify(message));

for (const [index, [codec, message, hex]] of CASES.entries()) {
  void t.test(`${index + 1}: ${Object.keys(message).join(' ')}`, (t) => {
    const bytes = Buffer.from(codec.encode(message).finish());
    t.equal(bytes.toString('hex'), hex.replaceAll(' ', ''));
    t.has(plain(codec.decode(bytes)), plain(message));
    t.end();
  });
}
