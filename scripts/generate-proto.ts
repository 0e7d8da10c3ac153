import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';

// Turns proto/*.proto into the static codecs that `#wire`, `#wire-metrics`, `#wire-sandbox` and `#wire-services` name.

const run = promisify(execFile);
const require = createRequire(import.meta.url);

interface GeneratedModule {
  /** File name in `proto/gen`, without its extension. */
  readonly name: string;
  readonly isPart: (protoFile: string) => boolean;
}

const isMetrics = (file: string): boolean => file.startsWith('metrics_');
/** The sandbox API, and CRI's description of a pod that it carries. */
const isSandbox = (file: string): boolean => file.startsWith('sandbox');
/** containerd's own services, which only commands call. */
const isServices = (file: string): boolean => file.startsWith('services_');

/**
 * Statistics are a third of the code and only `Stats` needs them, and few nodes use the sandbox API: both can be loaded
 * when first asked for.
 */
const MODULES: readonly GeneratedModule[] = [
  { name: 'wire', isPart: (file) => !isMetrics(file) && !isSandbox(file) && !isServices(file) },
  { name: 'metrics', isPart: isMetrics },
  { name: 'sandbox', isPart: isSandbox },
  { name: 'services', isPart: isServices },
];

/** Holds the hash of everything the generated files depend on. */
const STAMP = '.inputs.sha256';

/**
 * Writes `<name>.js` and `<name>.d.ts` for every module into `outDir`, unless they are there and were made from the same
 * inputs. The output depends on the inputs alone.
 *
 * @returns whether anything was written
 */
export async function generateProto(protoDir: string, outDir: string): Promise<boolean> {
  const protoFiles = fs
    .readdirSync(protoDir)
    .filter((name) => name.endsWith('.proto'))
    .sort();
  const hash = hashInputs(protoDir, protoFiles, outDir);
  if (isUpToDate(outDir, hash)) return false;

  fs.mkdirSync(outDir, { recursive: true });
  // Written beside the target and renamed, so that two runs at once or a reader never meet half a file.
  const scratch = fs.mkdtempSync(path.join(outDir, '.new-'));
  try {
    const jobs = MODULES.flatMap((module) => {
      const files = protoFiles.filter(module.isPart);
      return [
        writeCode(module, protoDir, files, outDir, scratch),
        writeTypes(module, protoDir, files, scratch),
      ];
    });
    // A failure must not remove the directory under the jobs that still run.
    await Promise.allSettled(jobs);
    await Promise.all(jobs);
    fs.writeFileSync(path.join(scratch, STAMP), hash);
    for (const name of [...outputNames(), STAMP])
      fs.renameSync(path.join(scratch, name), path.join(outDir, name));
  } finally {
    fs.rmSync(scratch, { recursive: true });
  }
  return true;
}

async function writeCode(
  module: GeneratedModule,
  protoDir: string,
  files: readonly string[],
  outDir: string,
  scratch: string,
): Promise<void> {
  const runtime = relativeImport(outDir, path.join(import.meta.dirname, '../proto/protobuf-runtime.ts'));
  const out = path.join(scratch, `${module.name}.js`);
  await pbjs(protoDir, [
    ...optionsOf(module),
    '--no-comments',
    '--dependency',
    runtime,
    '--out',
    out,
    ...files,
  ]);
}

/** The types are read off the comments of a second copy of the code, which the daemon need not parse. */
async function writeTypes(
  module: GeneratedModule,
  protoDir: string,
  files: readonly string[],
  scratch: string,
): Promise<void> {
  const dir = path.join(scratch, `types-${module.name}`);
  fs.mkdirSync(dir);
  await pbjs(protoDir, [
    ...optionsOf(module),
    ...['--alt-comment', '--dts', '--out', path.join(dir, `${module.name}.js`)],
    ...files,
  ]);
  fs.renameSync(path.join(dir, `${module.name}.d.ts`), path.join(scratch, `${module.name}.d.ts`));
}

function optionsOf(module: GeneratedModule): string[] {
  return [
    ...['--target', 'static-module', '--wrap', 'esm', '--force-number'],
    ...['--no-verify', '--no-convert', '--no-delimited', '--no-typeurl', '--no-service'],
    // A root each: modules that share one replace each other's namespaces.
    ...['--root', `vmshim-${module.name}`],
  ];
}

async function pbjs(cwd: string, args: readonly string[]): Promise<void> {
  await run(process.execPath, [require.resolve('protobufjs-cli/bin/pbjs'), ...args], { cwd });
}

function outputNames(): string[] {
  return MODULES.flatMap(({ name }) => [`${name}.js`, `${name}.d.ts`]);
}

function isUpToDate(outDir: string, hash: string): boolean {
  if (!outputNames().every((name) => fs.existsSync(path.join(outDir, name)))) return false;
  const stamp = path.join(outDir, STAMP);
  return fs.existsSync(stamp) && fs.readFileSync(stamp, 'utf8') === hash;
}

function hashInputs(protoDir: string, protoFiles: readonly string[], outDir: string): string {
  const hash = createHash('sha256');
  const add = (name: string, content: string | Buffer): void => {
    hash.update(`${name}\0${content.length}\0`).update(content);
  };
  for (const name of protoFiles) add(name, fs.readFileSync(path.join(protoDir, name)));
  add('generator', fs.readFileSync(import.meta.filename));
  for (const name of ['protobufjs', 'protobufjs-cli']) {
    add(name, fs.readFileSync(require.resolve(`${name}/package.json`)));
  }
  // It is written into the generated imports.
  add('place', relativeImport(outDir, import.meta.dirname));
  return hash.digest('hex');
}

function relativeImport(fromDir: string, file: string): string {
  const relative = path.relative(fromDir, file);
  return relative.startsWith('.') ? relative : `./${relative}`;
}

if (import.meta.main) {
  const protoDir = path.join(import.meta.dirname, '../proto');
  const written = await generateProto(protoDir, path.join(protoDir, 'gen'));
  console.log(written ? 'proto/gen: generated' : 'proto/gen: up to date');
}
