import { existsSync, renameSync } from 'node:fs';
import { type Action, GRACE, some } from './action.ts';
import { powerAction } from './power-action.ts';
import { POWER, type PowerVerb } from './power-model.ts';
import type { Random } from './random.ts';

/** An operator's annotation; what makes no sense in the VM's state fails, and has to. */
function request(verb: PowerVerb, options: (random: Random) => object = () => ({})): Action {
  return powerAction(verb, async ({ vm, random, alone }, refused) => {
    const id = vm.order(verb, options(random), POWER[verb]);
    // A VM that is not there is made again by kubelet, which comes when all is done.
    if (!alone) return;
    const { phase, message } = await vm.answered(id);
    if (refused && phase === 'done') throw new Error(`${verb} was not refused`);
    if (!refused && phase !== 'done') throw new Error(`it is ${phase}: ${message}`);
  });
}

const grace = (random: Random): object => ({ graceSeconds: random.pick([1, 10, GRACE]) });

/** What is asked through the API server, and what happens to it and to the agent. */
export const agentActions = {
  'annotation stop': request('stop', (random) => random.pick([{ force: true }, grace(random)])),
  'annotation start': request('start'),
  'annotation reset': request('reset'),
  'annotation reboot': request('reboot', grace),
  'annotation pause': request('pause'),
  'annotation resume': request('resume'),
  'kill -9 agent': {
    fault: true,
    boots: 'never',
    besides: true,
    agentOnly: true,
    run: ({ chaos, random }) => chaos.agent.without(() => some(random, 500)),
  },
  'the API server goes away': {
    fault: true,
    boots: 'never',
    besides: true,
    agentOnly: true,
    run: async ({ chaos, random }) => {
      const { kube } = chaos.agent;
      const back = Promise.withResolvers<undefined>();
      if (random.below(2) === 0) kube.outage = 503;
      else kube.gate = back.promise;
      kube.breakConnections();
      await some(random, 2000);
      kube.outage = undefined;
      kube.gate = undefined;
      back.resolve(undefined);
    },
  },
  'the API server forgets, answers are lost': {
    fault: true,
    boots: 'never',
    besides: true,
    agentOnly: true,
    run: ({ chaos, random }) => {
      const { kube } = chaos.agent;
      kube.loseAnswers = random.below(3);
      kube.goneByStatus = random.below(2) === 0;
      kube.compact();
      if (random.below(2) === 0) kube.endWatches();
      else kube.breakConnections();
      return Promise.resolve();
    },
  },
  'delete and create, the agent collects when only the API server knows the pod': {
    fault: true,
    boots: 'must',
    unknown: true,
    run: async ({ chaos, vm }) => {
      await vm.pod.remove();
      const [kept, aside] = [vm.pod.directory, `${vm.pod.directory}.aside`];
      if (existsSync(kept)) renameSync(kept, aside);
      try {
        await chaos.agent.collects();
      } finally {
        if (existsSync(aside)) renameSync(aside, kept);
      }
    },
  },
} satisfies Readonly<Record<string, Action>>;
