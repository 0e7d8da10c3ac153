import { Programs } from '../host/programs.ts';

/** What the launcher runs: it loads the shim's program, which lies beside it. */
new Programs().load(`${__dirname}/shim.js`);
