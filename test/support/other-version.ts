import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { execa } from 'execa';
import { guest } from './guest.ts';
import { tempDir, type Teardown } from './temp-dir.ts';
import { vmctl, vmImage } from './vm-image.ts';

/** An archive of another image under the test guest's name, as when a tag is moved. The guest boots from it as well. */
export async function otherVersion(t: Teardown): Promise<string> {
  const { kernel, initrd, qcow2 } = await guest();
  const directory = tempDir(t);
  const disk = join(directory, 'other.qcow2');
  execFileSync('qemu-img', ['convert', '-O', 'qcow2', '-o', 'cluster_size=32k', qcow2, disk]);
  const archive = join(directory, 'other.tar');
  const { name } = await vmImage();
  const files = ['--kernel', kernel, '--initrd', initrd];
  await execa(vmctl, ['image', 'pack', disk, '--name', name, ...files, '--output', archive]);
  return archive;
}
