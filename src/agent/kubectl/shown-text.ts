/** Control and format characters, and what else ends a line; Unicode's general categories. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/**
 * Text that others have written, for a terminal: whoever may annotate a pod must not steer the terminal of who looks at it. What
 * cannot be seen is shown by its number, as in `\u{1b}`.
 */
export function shownText(text: string): string {
  return text.replace(UNSEEN, (character) => `\\u{${(character.codePointAt(0) ?? 0).toString(16)}}`);
}
