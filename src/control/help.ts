import type { Command } from './command.ts';

/** What `vmctl` alone prints. */
export function overview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map((command) => command.name.length));
  const list = commands.map((command) => `  ${command.name.padEnd(width)}  ${command.summary}\n`).join('');
  return `vmctl looks after the virtual machines that containerd runs on this node.

Usage: vmctl COMMAND [...]

${list}
"vmctl help COMMAND" explains one. Exit status: 0 done, 1 failed, 2 wrong usage, 3 no such VM, 4 the VM's shim does not answer.
`;
}

export function commandHelp({ name, usage, details, options }: Command): string {
  const width = Math.max(0, ...options.map((option) => option.flag.length));
  const list = options.map((option) => `  ${option.flag.padEnd(width)}  ${option.text}\n`).join('');
  return `Usage: vmctl ${name} ${usage}\n\n${details}\n${list === '' ? '' : `\nOptions:\n${list}`}`;
}
