import type { Test } from 'tap';
import type { Attached, ContainerOptions, CriContainer, CriPod } from './cri-pod.ts';

const PROMPT = /cloud# $/;

/** A Debian with a root shell on its console. */
export class CloudVm {
  readonly vm: CriContainer;
  readonly console: Attached;

  private constructor(vm: CriContainer, console: Attached) {
    this.vm = vm;
    this.console = console;
  }

  /** Resolves when cloud-init has done its work. */
  static async boot(t: Test, pod: CriPod, options: ContainerOptions): Promise<CloudVm> {
    const from = Date.now();
    const vm = await pod.start(options);
    const console = await vm.attach();
    await console.output.until(PROMPT);
    t.comment(`booted in ${Date.now() - from} ms`);
    return new CloudVm(vm, console);
  }

  async powerOff(): Promise<void> {
    // An interactive shell does not heed the signal that would end it.
    this.console.type('systemctl poweroff; exit');
    await this.vm.exited();
  }

  /** What a command says. */
  async ask(line: string): Promise<string> {
    const { output } = this.console;
    const from = output.text.length;
    this.console.type(line);
    // The console shows the line before the answer; the next prompt ends it.
    const [said] = await output.until(/\n[^]*cloud# $/, from);
    return said.slice(1).replaceAll('\r\n', '\n').replace(PROMPT, '');
  }
}
