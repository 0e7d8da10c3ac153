/** How tap runs test files: here as in the test-bed, from the repository's root. */
export function tapCommand(
  files: readonly string[],
  { timeout, jobs }: { readonly timeout: number; readonly jobs: number },
): string[] {
  return [
    'node_modules/.bin/node',
    'node_modules/.bin/tap',
    'run',
    '--reporter=tap',
    '--type-strip-only',
    '--disable-coverage',
    '--fail-skip',
    '--fail-todo',
    `--timeout=${timeout}`,
    `--jobs=${jobs}`,
    ...files,
  ];
}
