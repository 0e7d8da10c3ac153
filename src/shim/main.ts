import { describeError } from '../core/errors.ts';
import { parseShimArgs } from './args.ts';
import { start } from './start.ts';
import { VERSION } from '../vm/version.ts';

/**
 * The program containerd runs. Each action loads only what it needs: `start` and `delete` are on every pod's critical
 * path and must not pay for the daemon's code.
 */
async function main(argv: readonly string[]): Promise<void> {
  const command = parseShimArgs(argv);
  switch (command.action) {
    case 'version':
      process.stdout.write(`containerd-shim-vm-v2:\n  Version:  ${VERSION}\n`);
      return;
    case 'info':
      (await import('./info.ts')).writeInfo();
      return;
    case 'start':
      await start(command.flags);
      return;
    case 'delete':
      await (await import('./delete.ts')).deleteTask(command.flags);
      return;
    case 'keep':
      await (await import('./keep.ts')).keep(command.flags);
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  // containerd shows this text to whoever asked for the task, so it is one sentence and no stack. The class is told by
  // its name, since each bundle has its own VmError.
  process.stderr.write(
    `containerd-shim-vm-v2: ${error instanceof Error && error.name === 'VmError' ? error.message : describeError(error)}\n`,
  );
  process.exitCode = 1;
});
