import { Programs } from '../../host/programs.ts';

/** What the launcher runs: it loads the plugin's program, which lies beside it, from its code cache. */
new Programs().load(`${__dirname}/vm-tap.js`);
