/*
 * The system calls that Node has no API for, one function per call. There is no logic here: a function checks the
 * types of its arguments, makes the call and hands the result back. src/host/native.ts states the types and the
 * meaning; both files change together.
 *
 * A failed call throws an Error as Node does: `code` ("ENOENT"), `errno` (-2), `syscall`. A wrong argument throws a
 * TypeError or RangeError that names it. Plain N-API, so that one build serves every Node version.
 */
#define _GNU_SOURCE
#define NAPI_VERSION 8
#include "lock.h"
#include "loopback.h"
#include "network.h"
#include "readable.h"
#include "values.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/vm_sockets.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

/* The kernel's SCM_MAX_FD and the largest NR_CPUS it can be built with. */
enum { MAX_FDS = 253, MAX_CPUS = 8192, MAX_MESSAGE = 1 << 20 };

/* ---- sockets ---- */

/* fchmod before bind gives the new file its mode from the start; chmod after it puts back what the umask took. */
static napi_value listen_unix(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  int backlog;
  if (!get_args(env, info, 2, argv) ||
      !get_string(env, argv[0], "path", address.sun_path, sizeof address.sun_path) ||
      !get_int(env, argv[1], "backlog", 0, &backlog)) {
    return NULL;
  }
  if (address.sun_path[0] == '\0') {
    bad_range(env, "path", "at least 1 byte long");
    return NULL;
  }
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return throw_errno(env, errno, "socket");
  if (fchmod(fd, 0600) < 0) return close_and_throw(env, fd, "fchmod");
  if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) return close_and_throw(env, fd, "bind");
  if (chmod(address.sun_path, 0600) < 0) return close_and_throw(env, fd, "chmod");
  if (listen(fd, backlog) < 0) return close_and_throw(env, fd, "listen");
  return js_int(env, fd);
}

static napi_value vsock_connect(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int64_t cid, port;
  if (!get_args(env, info, 2, argv) || !get_integer(env, argv[0], "cid", 0, UINT32_MAX, &cid) ||
      !get_integer(env, argv[1], "port", 0, UINT32_MAX, &port)) {
    return NULL;
  }
  struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = (unsigned)cid, .svm_port = (unsigned)port};
  int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return throw_errno(env, errno, "socket");
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS) {
    return close_and_throw(env, fd, "connect");
  }
  return js_int(env, fd);
}

static napi_value send_fds(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  int socket_fd, fds[MAX_FDS];
  uint32_t count;
  struct iovec part;
  if (!get_args(env, info, 3, argv) || !get_fd(env, argv[0], "socket", &socket_fd) ||
      !get_bytes(env, argv[1], "bytes", &part.iov_base, &part.iov_len) ||
      !get_integers(env, argv[2], "fds", MAX_FDS, INT_MAX, fds, &count)) {
    return NULL;
  }
  if (part.iov_len == 0) {
    bad_range(env, "bytes", "at least 1 byte long: descriptors travel with data");
    return NULL;
  }
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fds)];
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (count > 0) {
    memset(control, 0, sizeof control);
    message.msg_control = control;
    message.msg_controllen = CMSG_SPACE(count * sizeof(int));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(count * sizeof(int));
    memcpy(CMSG_DATA(header), fds, count * sizeof(int));
  }
  return int_or_throw(env, sendmsg(socket_fd, &message, MSG_NOSIGNAL), "sendmsg");
}

static uint32_t received_fds(struct msghdr *message, int *fds) {
  uint32_t count = 0;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    count = (uint32_t)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    memcpy(fds, CMSG_DATA(header), count * sizeof(int));
  }
  return count;
}

static napi_value recv_fds(napi_env env, napi_callback_info info) {
  napi_value argv[3], result, bytes, js_fds;
  int socket_fd, fds[MAX_FDS + 1];
  int64_t max_bytes, max_fds;
  struct iovec part;
  if (!get_args(env, info, 3, argv) || !get_fd(env, argv[0], "socket", &socket_fd) ||
      !get_integer(env, argv[1], "maxBytes", 1, MAX_MESSAGE, &max_bytes) ||
      !get_integer(env, argv[2], "maxFds", 0, MAX_FDS, &max_fds)) {
    return NULL;
  }
  part.iov_len = (size_t)max_bytes;
  part.iov_base = malloc(part.iov_len);
  if (part.iov_base == NULL) return throw_errno(env, ENOMEM, "malloc");
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof fds)];
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control};
  message.msg_controllen = max_fds == 0 ? 0 : CMSG_LEN((size_t)max_fds * sizeof(int));
  ssize_t length = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
  int number = errno;
  uint32_t count = length < 0 ? 0 : received_fds(&message, fds);
  if (length >= 0 && (message.msg_flags & MSG_CTRUNC) != 0) {
    length = -1;
    number = EMSGSIZE;
  }
  bool made = length >= 0 && napi_create_object(env, &result) == napi_ok &&
              napi_create_buffer_copy(env, (size_t)length, part.iov_base, NULL, &bytes) == napi_ok &&
              (js_fds = js_integers(env, fds, count)) != NULL &&
              napi_set_named_property(env, result, "bytes", bytes) == napi_ok &&
              napi_set_named_property(env, result, "fds", js_fds) == napi_ok;
  free(part.iov_base);
  if (made) return result;
  for (uint32_t i = 0; i < count; i++) close(fds[i]);
  return length < 0 ? throw_errno(env, number, "recvmsg") : NULL;
}

/* ---- namespaces and mounts ---- */

static napi_value unshare_net(napi_env env, napi_callback_info info) {
  (void)info;
  return nothing_or_throw(env, unshare(CLONE_NEWNET), "unshare");
}

static napi_value set_ns(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd, type;
  if (!get_args(env, info, 2, argv) || !get_fd(env, argv[0], "fd", &fd) || !get_int(env, argv[1], "nstype", 0, &type)) {
    return NULL;
  }
  return nothing_or_throw(env, setns(fd, type), "setns");
}

static napi_value mount_at(napi_env env, napi_callback_info info) {
  napi_value argv[5];
  char source_text[PATH_MAX], target[PATH_MAX], type_text[64], data_text[PATH_MAX];
  const char *source, *type, *data;
  int64_t flags;
  if (!get_args(env, info, 5, argv) ||
      !get_text_or_null(env, argv[0], "source", source_text, sizeof source_text, &source) ||
      !get_string(env, argv[1], "target", target, sizeof target) ||
      !get_text_or_null(env, argv[2], "type", type_text, sizeof type_text, &type) ||
      !get_integer(env, argv[3], "flags", 0, UINT32_MAX, &flags) ||
      !get_text_or_null(env, argv[4], "data", data_text, sizeof data_text, &data)) {
    return NULL;
  }
  return nothing_or_throw(env, mount(source, target, type, (unsigned long)flags, data), "mount");
}

static napi_value umount_at(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  char target[PATH_MAX];
  int flags;
  if (!get_args(env, info, 2, argv) || !get_string(env, argv[0], "target", target, sizeof target) ||
      !get_int(env, argv[1], "flags", 0, &flags)) {
    return NULL;
  }
  return nothing_or_throw(env, umount2(target, flags), "umount2");
}

/* ---- descriptors ---- */

static napi_value memfd(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  char name[250];
  int64_t flags;
  if (!get_args(env, info, 2, argv) || !get_string(env, argv[0], "name", name, sizeof name) ||
      !get_integer(env, argv[1], "flags", 0, UINT32_MAX, &flags)) {
    return NULL;
  }
  return int_or_throw(env, memfd_create(name, (unsigned)flags | MFD_CLOEXEC), "memfd_create");
}

static napi_value flock_fd(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd, operation;
  if (!get_args(env, info, 2, argv) || !get_fd(env, argv[0], "fd", &fd) ||
      !get_int(env, argv[1], "operation", 0, &operation)) {
    return NULL;
  }
  if (flock(fd, operation) == 0) return js_bool(env, true);
  return errno == EWOULDBLOCK ? js_bool(env, false) : throw_errno(env, errno, "flock");
}

/* Whether another open file has a lock on these bytes; nothing is locked. Source: fcntl(2), F_OFD_GETLK. */
static napi_value ofd_locked(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  int fd;
  int64_t start, length;
  if (!get_args(env, info, 3, argv) || !get_fd(env, argv[0], "fd", &fd) ||
      !get_integer(env, argv[1], "start", 0, UINT32_MAX, &start) ||
      !get_integer(env, argv[2], "length", 1, UINT32_MAX, &length)) {
    return NULL;
  }
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
  if (fcntl(fd, F_OFD_GETLK, &lock) < 0) return throw_errno(env, errno, "fcntl");
  return js_bool(env, lock.l_type != F_UNLCK);
}

static napi_value set_cloexec(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd;
  bool on;
  if (!get_args(env, info, 2, argv) || !get_fd(env, argv[0], "fd", &fd) || !get_bool(env, argv[1], "on", &on)) {
    return NULL;
  }
  return nothing_or_throw(env, fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0), "fcntl");
}

static napi_value dup_fd(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int fd;
  if (!get_args(env, info, 1, argv) || !get_fd(env, argv[0], "fd", &fd)) return NULL;
  return int_or_throw(env, fcntl(fd, F_DUPFD_CLOEXEC, 3), "fcntl");
}

/* ---- processes ---- */

static napi_value pidfd_open_pid(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int pid;
  if (!get_args(env, info, 1, argv) || !get_int(env, argv[0], "pid", 1, &pid)) return NULL;
  return int_or_throw(env, syscall(SYS_pidfd_open, pid, 0), "pidfd_open");
}

static napi_value pidfd_signal(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd, signal_number;
  if (!get_args(env, info, 2, argv) || !get_fd(env, argv[0], "fd", &fd) ||
      !get_int(env, argv[1], "signal", 0, &signal_number)) {
    return NULL;
  }
  return nothing_or_throw(env, syscall(SYS_pidfd_send_signal, fd, signal_number, NULL, 0), "pidfd_send_signal");
}

/* A copy of a descriptor that another process has open; it takes the right to trace that process. */
static napi_value pidfd_get_fd(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int pidfd, fd;
  if (!get_args(env, info, 2, argv) || !get_fd(env, argv[0], "pidfd", &pidfd) || !get_fd(env, argv[1], "fd", &fd)) {
    return NULL;
  }
  return int_or_throw(env, syscall(SYS_pidfd_getfd, pidfd, fd, 0), "pidfd_getfd");
}

static napi_value wait_pid(napi_env env, napi_callback_info info) {
  napi_value argv[2], result;
  int pid, options, status = 0;
  if (!get_args(env, info, 2, argv) || !get_int(env, argv[0], "pid", INT_MIN, &pid) ||
      !get_int(env, argv[1], "options", INT_MIN, &options)) {
    return NULL;
  }
  pid_t ended = waitpid(pid, &status, options);
  if (ended < 0) return throw_errno(env, errno, "waitpid");
  if (ended == 0) return napi_get_null(env, &result) == napi_ok ? result : NULL;
  if (napi_create_object(env, &result) != napi_ok ||
      napi_set_named_property(env, result, "pid", js_int(env, ended)) != napi_ok ||
      napi_set_named_property(env, result, "status", js_int(env, status)) != napi_ok) {
    return NULL;
  }
  return result;
}

static napi_value set_child_subreaper(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  bool on;
  if (!get_args(env, info, 1, argv) || !get_bool(env, argv[0], "on", &on)) return NULL;
  return nothing_or_throw(env, prctl(PR_SET_CHILD_SUBREAPER, on ? 1UL : 0UL, 0UL, 0UL, 0UL), "prctl");
}

static napi_value new_session(napi_env env, napi_callback_info info) {
  if (!get_args(env, info, 0, NULL)) return NULL;
  return nothing_or_throw(env, setsid() == -1 ? -1 : 0, "setsid");
}

static napi_value set_name(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  char name[16];
  if (!get_args(env, info, 1, argv) || !get_string(env, argv[0], "name", name, sizeof name)) return NULL;
  return nothing_or_throw(env, prctl(PR_SET_NAME, name, 0UL, 0UL, 0UL), "prctl");
}

static napi_value set_affinity(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int tid, cpus[MAX_CPUS];
  uint32_t count;
  if (!get_args(env, info, 2, argv) || !get_int(env, argv[0], "tid", 0, &tid) ||
      !get_integers(env, argv[1], "cpus", MAX_CPUS, MAX_CPUS - 1, cpus, &count)) {
    return NULL;
  }
  unsigned long set[MAX_CPUS / 8 / sizeof(unsigned long)] = {0};
  for (uint32_t i = 0; i < count; i++) CPU_SET_S((size_t)cpus[i], sizeof set, (cpu_set_t *)set);
  return nothing_or_throw(env, sched_setaffinity(tid, sizeof set, (cpu_set_t *)set), "sched_setaffinity");
}

static napi_value get_affinity(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int tid, cpus[MAX_CPUS];
  uint32_t count = 0;
  if (!get_args(env, info, 1, argv) || !get_int(env, argv[0], "tid", 0, &tid)) return NULL;
  unsigned long set[MAX_CPUS / 8 / sizeof(unsigned long)] = {0};
  if (sched_getaffinity(tid, sizeof set, (cpu_set_t *)set) < 0) return throw_errno(env, errno, "sched_getaffinity");
  for (int cpu = 0; cpu < MAX_CPUS; cpu++) {
    if (CPU_ISSET_S((size_t)cpu, sizeof set, (cpu_set_t *)set)) cpus[count++] = cpu;
  }
  return js_integers(env, cpus, count);
}

/* ---- the module ---- */

static const struct {
  const char *name;
  napi_callback call;
} functions[] = {
    {"listenUnix", listen_unix},
    {"vsockConnect", vsock_connect},
    {"sendFds", send_fds},
    {"recvFds", recv_fds},
    {"unshareNet", unshare_net},
    {"setns", set_ns},
    {"mount", mount_at},
    {"umount", umount_at},
    {"memfdCreate", memfd},
    {"flock", flock_fd},
    {"flockWait", flock_wait},
    {"ofdLocked", ofd_locked},
    {"setCloexec", set_cloexec},
    {"dup", dup_fd},
    {"tunSetIff", tun_set_iff},
    {"tunSetInt", tun_set_int},
    {"tunNetns", tun_netns},
    {"tunAttachFilter", tun_attach_filter},
    {"packetSocket", packet_socket},
    {"listenTcp", listen_tcp},
    {"catchLoopback", catch_loopback},
    {"setMark", set_mark},
    {"watchReadable", watch_readable},
    {"unwatch", unwatch},
    {"pidfdOpen", pidfd_open_pid},
    {"pidfdSendSignal", pidfd_signal},
    {"pidfdGetFd", pidfd_get_fd},
    {"waitpid", wait_pid},
    {"setsid", new_session},
    {"setChildSubreaper", set_child_subreaper},
    {"prctlSetName", set_name},
    {"schedSetaffinity", set_affinity},
    {"schedGetaffinity", get_affinity},
};

NAPI_MODULE_INIT() {
  napi_value value;
  if (!keep_watches(env)) return NULL;
  for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
    const char *name = functions[i].name;
    if (napi_create_function(env, name, NAPI_AUTO_LENGTH, functions[i].call, NULL, &value) != napi_ok ||
        napi_set_named_property(env, exports, name, value) != napi_ok) {
      return NULL;
    }
  }
  /* scripts/build-addon.ts puts the hash of this file in, to see whether a build is up to date. */
  if (napi_create_string_utf8(env, SOURCE_HASH, NAPI_AUTO_LENGTH, &value) != napi_ok ||
      napi_set_named_property(env, exports, "sourceHash", value) != napi_ok) {
    return NULL;
  }
  return exports;
}
