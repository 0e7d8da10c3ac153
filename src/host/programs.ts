import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Script } from 'node:vm';

type ProgramFunction = (
  exports: unknown,
  require: (name: string) => unknown,
  module: { exports: unknown },
  directory: string,
) => void;

/** Hex digits of a bundle's hash: in its first line after two slashes, and at the head of its code cache. */
export const HASH_DIGITS = 16;

/** What stands around a bundle in its file: put there when it is read, it would cost a second copy of it in memory. */
export const WRAPPER: readonly string[] = ['(function(exports,require,module,__dirname){', '\n})'];

/**
 * Loads our own bundles as `require` would, but each from V8's code cache `<path>.cache`. Compiling half a MiB of
 * JavaScript anew would cost every start of a shim 10 ms and 1 MB. A cache of another source is passed over, by our own
 * hash as V8 compares lengths only, and so is one of another V8. A bundle is CommonJS in ASCII and requires Node's own
 * modules and bundles beside it.
 */
export class Programs {
  /** What was loaded, by path. */
  readonly scripts: Map<string, Script> = new Map();
  readonly #modules = new Map<string, { exports: unknown }>();

  /** The exports of the bundle at an absolute path. */
  load(path: string): unknown {
    const known = this.#modules.get(path);
    if (known !== undefined) return known.exports;
    const module = { exports: {} };
    this.#modules.set(path, module);
    const script = compile(path);
    this.scripts.set(path, script);
    const run = script.runInThisContext() as ProgramFunction;
    const directory = dirname(path);
    const require = (name: string): unknown =>
      name.startsWith('.') ? this.load(join(directory, name)) : process.getBuiltinModule(name);
    run(module.exports, require, module, directory);
    return module.exports;
  }
}

/** What goes into `<path>.cache`, with the functions in it that have been compiled by now. */
export function codeCache(path: string, script: Script): Buffer {
  return Buffer.concat([Buffer.from(hashOf(readFileSync(path, 'latin1'))), script.createCachedData()]);
}

function compile(path: string): Script {
  // As Latin-1 the source stays one byte per character and V8 takes it as it is.
  const source = readFileSync(path, 'latin1');
  const cache = readIfThere(`${path}.cache`);
  const fits = cache?.toString('latin1', 0, HASH_DIGITS) === hashOf(source);
  return new Script(source, {
    filename: path,
    ...(cache !== undefined && fits ? { cachedData: cache.subarray(HASH_DIGITS) } : {}),
  });
}

function hashOf(source: string): string {
  return source.slice(2, 2 + HASH_DIGITS);
}

function readIfThere(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
