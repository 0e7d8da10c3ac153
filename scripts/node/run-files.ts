import { type NodeLimits, type NodeOutput, NodeSilent, runInNode } from './boot-node.ts';
import type { NodeDisks } from './disks.ts';
import { FileResults } from './file-results.ts';
import type { NodeShape } from './plan-node.ts';

/**
 * A node whose kernel falls silent, pulse and all, is this emulation's and says nothing about the file that ran (CONTRIBUTING.md has
 * what was found). What it was at goes to stderr, and the rest is run by another; a second one is no accident.
 */
const SILENT_NODES = 1;

/**
 * Runs test files in a node, their TAP to `out`.
 *
 * @param disksOf a node's disks with a job of these files
 * @returns 0 if every file passed
 * @throws Error when a node ends without a result, or more than one falls silent
 */
export async function runFiles(
  shape: NodeShape,
  files: readonly string[],
  disksOf: (files: readonly string[]) => Promise<NodeDisks>,
  limits: NodeLimits,
  { out, err }: NodeOutput,
): Promise<number> {
  const results = new FileResults(out);
  const left = (): readonly string[] => files.slice(results.finished);
  try {
    for (let silent = 0; ;) {
      using disks = await disksOf(left());
      try {
        const status = await runInNode(shape, disks, limits, { out: (text) => results.add(text), err });
        return results.failed ? 1 : status;
      } catch (error) {
        if (!(error instanceof NodeSilent) || ++silent > SILENT_NODES) throw error;
        err(`${error.message}\nANOTHER NODE runs ${left().join(' ')}\n`);
        results.forget();
      }
    }
  } finally {
    results.end();
  }
}
