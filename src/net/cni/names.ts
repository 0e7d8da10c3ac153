/** CNI_CONTAINERID, as the CNI specification restricts it; at most a file name, since it becomes one. */
export const SANDBOX_ID = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,254}$/;

/** `name` of a network configuration, as the CNI specification restricts it. */
export const NETWORK_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/** A link's name as we take it: IFNAMSIZ less its NUL, of what needs no quoting in a path or a command (the kernel takes more). */
export const IF_NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/;
export const IF_NAME_TYPE = 'the name of a link: 1 to 15 letters, digits, "_", "." and "-"';
