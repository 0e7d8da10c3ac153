/** CNI_CONTAINERID, as the CNI specification restricts it; at most a file name, since it becomes one. */
export const SANDBOX_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/;

/** `name` of a network configuration, as the CNI specification restricts it. */
export const NETWORK_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/** What Linux takes as the name of a link (dev_valid_name): 1 to 15 bytes without slash, colon and blanks, not `.` or `..`. */
export const IF_NAME = /^(?!\.{1,2}$)[\x21-\x2e\x30-\x39\x3b-\x7e]{1,15}$/;
export const IF_NAME_TYPE = 'the name of a link (1 to 15 characters without slash, colon or blank)';
