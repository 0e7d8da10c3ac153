import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { busyboxRoot } from './shim-lab.ts';

export const BUSYBOX_IMAGE = 'example.test/busybox:1';

/** Makes an archive for `ctr images import` of an image that holds a static busybox, below `directory`. */
export function busyboxImage(directory: string): string {
  const content = join(directory, 'image');
  mkdirSync(content, { recursive: true });
  const layer = join(content, 'layer.tar');
  tar(layer, busyboxRoot(join(directory, 'root')), ['.']);
  const diffId = createHash('sha256').update(readFileSync(layer)).digest('hex');
  const config = {
    architecture: 'amd64',
    os: 'linux',
    config: { Cmd: ['/bin/busybox'], Env: ['PATH=/bin'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${diffId}`] },
  };
  const manifest = [{ Config: 'config.json', RepoTags: [BUSYBOX_IMAGE], Layers: ['layer.tar'] }];
  writeFileSync(join(content, 'config.json'), JSON.stringify(config));
  writeFileSync(join(content, 'manifest.json'), JSON.stringify(manifest));
  const archive = join(directory, 'busybox.tar');
  tar(archive, content, ['manifest.json', 'config.json', 'layer.tar']);
  return archive;
}

function tar(archive: string, directory: string, names: readonly string[]): void {
  execFileSync('tar', [
    '--create',
    '--file',
    archive,
    '--directory',
    directory,
    '--owner=0',
    '--group=0',
    ...names,
  ]);
}
