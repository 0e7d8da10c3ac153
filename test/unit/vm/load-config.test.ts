import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { runtimeoptions } from '#wire';
import type { AnyMessage } from '../../../src/core/protobuf-fields.ts';
import { LinuxHost } from '../../../src/host/linux-host.ts';
import { loadConfig } from '../../../src/vm/load-config.ts';
import { tempDir } from '../../support/temp-dir.ts';

const host = new LinuxHost();
const options = (
  fields: { configPath?: string; configBody?: Uint8Array },
  typeUrl = 'runtimeoptions.v1.Options',
): AnyMessage => ({
  typeUrl,
  value: runtimeoptions.v1.Options.encode(fields).finish(),
});
const body = (toml: string): Uint8Array => Buffer.from(toml);

void t.test('the nearest configuration applies, alone', (t) => {
  const directory = tempDir(t);
  const file = (name: string, toml: string): string => {
    writeFileSync(join(directory, name), toml);
    return join(directory, name);
  };
  const env = { VMSHIM_CONFIG: file('env.toml', 'state_dir = "/env"\nqemu = "/env/qemu"') };
  const path = file('path.toml', 'state_dir = "/path"');
  const both = options({ configPath: path, configBody: body('state_dir = "/body"') });
  t.equal(loadConfig(host, env, both).stateDir, '/path');
  t.equal(loadConfig(host, env, both).qemu, '/usr/bin/qemu-system-x86_64', 'files are not merged');
  t.equal(loadConfig(host, env, options({ configBody: body("state_dir = '/body'\n") })).stateDir, '/body');
  t.equal(loadConfig(host, env, options({})).stateDir, '/env');
  t.equal(loadConfig(host, env, undefined).stateDir, '/env');
  const prefixed = options({ configPath: path }, 'type.googleapis.com/runtimeoptions.v1.Options');
  t.equal(loadConfig(host, env, prefixed).stateDir, '/path');
  const runc = options({ configPath: path }, 'containerd.runc.v1.Options');
  t.equal(loadConfig(host, env, runc).stateDir, '/env', 'options of other runtimes are not ours');
  t.equal(loadConfig(host, env, { typeUrl: '', value: new Uint8Array() }).stateDir, '/env');
  t.end();
});

void t.test('a configuration that was named and is not there or wrong', (t) => {
  const env = { VMSHIM_CONFIG: '/nonexistent/env.toml' };
  t.throws(() => loadConfig(host, env, undefined), {
    kind: 'NotFound',
    message: /variable VMSHIM_CONFIG.*\/nonexistent\/env\.toml/,
  });
  const missing = options({ configPath: '/nonexistent/path.toml' });
  t.throws(() => loadConfig(host, {}, missing), {
    kind: 'NotFound',
    message: /runtime option ConfigPath.*path\.toml/,
  });
  const wrong = options({ configBody: body('\nacel = "tcg"') });
  t.throws(() => loadConfig(host, {}, wrong), {
    kind: 'InvalidArgument',
    message: /^options of the runtime in containerd’s config:2: .*acel/,
  });
  t.throws(() => loadConfig(host, {}, { typeUrl: 'runtimeoptions.v1.Options', value: Buffer.from([0xff]) }), {
    kind: 'InvalidArgument',
    message: /no protobuf message/,
  });
  t.end();
});
