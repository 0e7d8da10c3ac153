/** Where a program of ours tells its operator what happened. Never carries user data or secrets. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}

export type LogFields = Readonly<Record<string, string | number | boolean | undefined>>;

/**
 * Lines in logrus' text form, which containerd's own log has, so that both read alike in one file.
 * @param write takes one line with its newline; must not throw.
 */
export function textLogger(
  write: (line: string) => void,
  options: { debug: boolean; fields?: LogFields },
): Logger {
  const line =
    (level: string) =>
    (message: string, fields: LogFields = {}): void => {
      const pairs = Object.entries({ ...options.fields, ...fields })
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => ` ${key}=${quote(String(value))}`);
      write(
        `time="${new Date().toISOString()}" level=${level} msg=${JSON.stringify(message)}${pairs.join('')}\n`,
      );
    };
  const nothing = (): void => undefined;
  return {
    debug: options.debug ? line('debug') : nothing,
    info: line('info'),
    warn: line('warning'),
    error: line('error'),
  };
}

const quote = (value: string): string => (/^[\w./:@+-]+$/.test(value) ? value : JSON.stringify(value));
