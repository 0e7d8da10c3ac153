import type { LogFields, Logger } from '../../src/core/logger.ts';

/** A logger that keeps `level message key=value …`. */
export interface RecordingLogger extends Logger {
  readonly lines: string[];
}

export function recordingLogger(): RecordingLogger {
  const lines: string[] = [];
  const at =
    (level: string) =>
    (message: string, fields: LogFields = {}): void => {
      const pairs = Object.entries(fields).map(([key, value]) => ` ${key}=${String(value)}`);
      lines.push(`${level} ${message}${pairs.join('')}`);
    };
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}
