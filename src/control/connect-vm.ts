import { readVmRecords } from '../vm/record-directory.ts';
import { type CommandContext, UsageError } from './command.ts';
import { ControlClient } from './control-client.ts';
import { findVm } from './vm-directory.ts';

/** The control connection of the VM that a command line names. */
export async function connectVm(
  context: CommandContext,
  positionals: readonly string[],
  namespace: string | undefined,
): Promise<ControlClient> {
  const [wanted, ...more] = positionals;
  if (wanted === undefined || more.length > 0)
    throw new UsageError('give exactly one VM; "vmctl list" shows the ones there are');
  const record = findVm(readVmRecords(context.host, context.config().stateDir), wanted, namespace);
  return await ControlClient.connect(`${record.runDir}/control.sock`, context.signal);
}
