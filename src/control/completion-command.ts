import { type Command, UsageError } from './command.ts';
import { readVmRecords } from '../vm/record-directory.ts';

export const completionCommand: Command = {
  name: 'completion',
  usage: 'bash|zsh',
  summary: 'a script that completes vmctl’s words in your shell',
  details: '  source <(vmctl completion bash)',
  options: [],
  takesVm: false,
  run(args, { print, commands, host, config }) {
    const [shell] = args;
    // What the script asks back: the VMs there are at this moment.
    if (shell === 'vms')
      print(
        readVmRecords(host, config().stateDir)
          .map((record) => `${record.id}\n`)
          .join(''),
      );
    else if (shell === 'bash') print(bashScript(commands));
    else if (shell === 'zsh') print(`autoload -U bashcompinit && bashcompinit\n${bashScript(commands)}`);
    else throw new UsageError('completion takes "bash" or "zsh"');
    return Promise.resolve(0);
  },
};

function bashScript(commands: readonly Command[]): string {
  const names = commands.map((command) => command.name).join(' ');
  const cases = commands
    .map((command) => {
      const flags = command.options.map((option) => option.flag.split(' ')[0]).join(' ');
      const words = command.takesVm ? `${flags} $(vmctl completion vms 2>/dev/null)` : flags;
      const first = command.words?.join(' ');
      const choose =
        first === undefined
          ? `words="${words}"`
          : `if [ "$COMP_CWORD" = 2 ]; then words="${first}"; else words="${words}"; fi`;
      return `    ${command.name}) ${choose} ;;\n`;
    })
    .join('');
  return `_vmctl() {
  local current=\${COMP_WORDS[COMP_CWORD]} words
  if [ "$COMP_CWORD" = 1 ]; then
    COMPREPLY=($(compgen -W "${names} help" -- "$current"))
    return
  fi
  case \${COMP_WORDS[1]} in
    help) words="${names}" ;;
${cases}  esac
  COMPREPLY=($(compgen -o default -W "$words" -- "$current"))
}
complete -F _vmctl vmctl
`;
}
