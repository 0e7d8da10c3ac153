/** What came of a frame of the guest: a frame to send back, or the reason that there is none. */
export type FrameAnswer =
  | { readonly kind: AnswerKind; readonly frame: Buffer }
  | { readonly kind: SilenceKind; readonly frame?: never }
  /** The guest, at this address, wants to know its gateway's MAC address, for which the network has to be asked. */
  | { readonly kind: 'gateway-asked'; readonly asker: Uint8Array; readonly frame?: never };

export const ANSWER_KINDS = [
  'offer',
  'ack',
  'inform-ack',
  'nak',
  'advertise',
  'reply',
  'router-advertisement',
  'neighbor-advertisement',
  'arp-reply',
] as const;

/**
 * `not-ours`: of another MAC, of a relay, for another server or of a family the guest has no address of.
 * `declined`: the guest found somebody else using its address.
 */
export const SILENCE_KINDS = ['not-ours', 'malformed', 'declined', 'released'] as const;

export type AnswerKind = (typeof ANSWER_KINDS)[number];
export type SilenceKind = (typeof SILENCE_KINDS)[number];
