import { parseJsonObject } from '../../core/parse-guest-values.ts';
import type { GuestData } from './guest-data.ts';
import { jsonDocument } from './json-document.ts';

/** vendor_data.json: what it says, and its bytes. */
export interface VendorData {
  readonly value: object;
  readonly document: Uint8Array;
}

/**
 * OpenStack's vendor data is a JSON object in which cloud-init looks for `cloud-init`: a text, or a list of them. A JSON
 * object of the user's is kept as it is where there is nothing to add.
 */
export function vendorData(data: GuestData): VendorData {
  const ours = passwordConfig(data);
  const given = data.vendorData;
  const object = given === undefined ? {} : parseJsonObject(given);
  if (object !== undefined && ours === undefined) {
    const document = given === undefined ? jsonDocument({}) : Buffer.from(given);
    return { value: object, document };
  }
  const texts = object === undefined ? [given] : listOf(object['cloud-init']);
  const all = [...texts, ...(ours === undefined ? [] : [ours])];
  const value = { ...object, 'cloud-init': all.length === 1 ? all[0] : all };
  return { value, document: jsonDocument(value) };
}

/** The vendor-data file of NoCloud: one text, so several become parts of a MIME message (RFC 2046). */
export function noCloudVendorData(data: GuestData): Uint8Array | undefined {
  const ours = [passwordConfig(data), filesConfig(data)].filter((config) => config !== undefined);
  const texts = data.vendorData === undefined ? ours : [data.vendorData, ...ours];
  const [only] = texts;
  if (only === undefined) return undefined;
  return Buffer.from(texts.length === 1 ? only : multipart(texts));
}

function listOf(value: unknown): unknown[] {
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

/** For the guest's default user. A key alone is how most images are used, so password logins over ssh stay as they are. */
function passwordConfig({ passwordHash }: GuestData): string | undefined {
  return passwordHash === undefined
    ? undefined
    : cloudConfig({ password: passwordHash, chpasswd: { expire: false } });
}

/** NoCloud has no `files` of its own. User data with `write_files` takes the place of this list. */
function filesConfig({ files }: GuestData): string | undefined {
  if (files.length === 0) return undefined;
  return cloudConfig({
    write_files: files.map(({ path, content }) => ({
      path,
      encoding: 'b64',
      content: Buffer.from(content).toString('base64'),
      permissions: '0660',
    })),
  });
}

function cloudConfig(value: object): string {
  return `#cloud-config\n${JSON.stringify(value, null, 2)}\n`;
}

const BOUNDARY = '==vmshim-vendor-data==';

/** Base64 throughout, so that no part can hold the boundary; cloud-init tells a part's kind by its first line. */
function multipart(texts: readonly string[]): string {
  const parts = texts.map((text) => {
    const lines =
      Buffer.from(text)
        .toString('base64')
        .match(/.{1,76}/g) ?? [];
    const head = [
      `--${BOUNDARY}`,
      'Content-Type: text/plain; charset="utf-8"',
      'Content-Transfer-Encoding: base64',
      '',
    ];
    return [...head, ...lines].join('\n');
  });
  const head = [`Content-Type: multipart/mixed; boundary="${BOUNDARY}"`, 'MIME-Version: 1.0', ''];
  return `${[...head, ...parts, `--${BOUNDARY}--`].join('\n')}\n`;
}
