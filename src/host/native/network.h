/*
 * System calls on network interfaces: TUN/TAP and packet sockets. Part of vmshim.c's one compilation.
 */
#pragma once
#include "classic-filter.h"
#include "values.h"

#include <arpa/inet.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* ---- TUN/TAP (Documentation/networking/tuntap.rst) ---- */

static napi_value tun_set_iff(napi_env env, napi_callback_info info) {
  napi_value argv[3], name;
  struct ifreq request = {0};
  int fd;
  int64_t flags;
  if (!get_args(env, info, 3, argv) || !get_fd(env, argv[0], "fd", &fd) ||
      !get_string(env, argv[1], "name", request.ifr_name, sizeof request.ifr_name) ||
      !get_integer(env, argv[2], "flags", 0, UINT16_MAX, &flags)) {
    return NULL;
  }
  request.ifr_flags = (short)flags;
  if (ioctl(fd, TUNSETIFF, &request) < 0) return throw_errno(env, errno, "TUNSETIFF");
  request.ifr_name[sizeof request.ifr_name - 1] = '\0';
  return napi_create_string_utf8(env, request.ifr_name, NAPI_AUTO_LENGTH, &name) == napi_ok ? name : NULL;
}

static napi_value tun_set_int(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  char option[24];
  int fd, value;
  if (!get_args(env, info, 3, argv) || !get_fd(env, argv[0], "fd", &fd) ||
      !get_string(env, argv[1], "option", option, sizeof option) || !get_int(env, argv[2], "value", 0, &value)) {
    return NULL;
  }
  if (strcmp(option, "vnet-hdr-size") == 0) {
    return nothing_or_throw(env, ioctl(fd, TUNSETVNETHDRSZ, &value), "TUNSETVNETHDRSZ");
  }
  unsigned long argument = (unsigned long)value;
  if (strcmp(option, "offload") == 0) return nothing_or_throw(env, ioctl(fd, TUNSETOFFLOAD, argument), "TUNSETOFFLOAD");
  if (strcmp(option, "owner") == 0) return nothing_or_throw(env, ioctl(fd, TUNSETOWNER, argument), "TUNSETOWNER");
  if (strcmp(option, "persist") == 0) return nothing_or_throw(env, ioctl(fd, TUNSETPERSIST, argument), "TUNSETPERSIST");
  bad_range(env, "option", "one of vnet-hdr-size, offload, owner, persist");
  return NULL;
}

/* The network namespace that the interface of a descriptor is in, wherever it was made; EBADFD where it has none. */
static napi_value tun_netns(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int fd;
  if (!get_args(env, info, 1, argv) || !get_fd(env, argv[0], "fd", &fd)) return NULL;
  return int_or_throw(env, ioctl(fd, TUNGETDEVNETNS), "TUNGETDEVNETNS");
}

/* ---- packet filters (Documentation/networking/filter.rst) ---- */

struct filter {
  struct sock_filter code[BPF_MAXINSNS];
  struct sock_fprog program;
};

/* A struct sock_filter is eight bytes in the order that src/net writes them, the host's. */
static bool get_filter(napi_env env, napi_value value, struct filter *filter) {
  void *bytes;
  size_t length;
  if (!get_bytes(env, value, "filter", &bytes, &length)) return false;
  if (length == 0 || length % sizeof filter->code[0] != 0 || length > sizeof filter->code) {
    return bad_range(env, "filter", "1 to 4096 instructions of 8 bytes");
  }
  memcpy(filter->code, bytes, length);
  filter->program.len = (unsigned short)(length / sizeof filter->code[0]);
  filter->program.filter = filter->code;
  return true;
}

/*
 * For what goes to the guest, of all queues; the TAP keeps the program. Not TUNATTACHFILTER: with it the kernel keeps the caller's pointer to the program and reads it anew whenever a queue is
 * enabled, in the address space of whoever enables it; QEMU ends by an assertion then.
 */
static napi_value tun_attach_filter(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  struct filter filter;
  int fd;
  if (!get_args(env, info, 2, argv) || !get_fd(env, argv[0], "fd", &fd) || !get_filter(env, argv[1], &filter)) {
    return NULL;
  }
  int program = load_filter(&filter.program);
  if (program < 0) return throw_errno(env, errno, "BPF_PROG_LOAD");
  int result = ioctl(fd, TUNSETFILTEREBPF, &program);
  int error = errno;
  close(program);
  errno = error;
  return nothing_or_throw(env, result, "TUNSETFILTEREBPF");
}

/* ---- packet sockets (packet(7)) ---- */

/* Bound last: until then the socket is on no interface, so nothing reaches it that has not passed the filter. */
static napi_value packet_socket(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  char name[IF_NAMESIZE];
  struct filter filter;
  int receive_buffer, ignore = 1;
  if (!get_args(env, info, 3, argv) || !get_string(env, argv[0], "ifName", name, sizeof name) ||
      !get_filter(env, argv[1], &filter) || !get_int(env, argv[2], "receiveBuffer", 0, &receive_buffer)) {
    return NULL;
  }
  struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  address.sll_ifindex = (int)if_nametoindex(name);
  if (address.sll_ifindex == 0) return throw_errno(env, errno, "if_nametoindex");

  int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return throw_errno(env, errno, "socket");
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter.program, sizeof filter.program) < 0 ||
      setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer) < 0 ||
      setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &ignore, sizeof ignore) < 0) {
    return close_and_throw(env, fd, "setsockopt");
  }
  if (bind(fd, (const struct sockaddr *)&address, sizeof address) < 0) return close_and_throw(env, fd, "bind");
  return js_int(env, fd);
}

/* SO_MARK, socket(7): of everything that the socket sends. */
static napi_value set_mark(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd, mark;
  if (!get_args(env, info, 2, argv) || !get_fd(env, argv[0], "fd", &fd) || !get_int(env, argv[1], "mark", 0, &mark)) {
    return NULL;
  }
  return nothing_or_throw(env, setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof mark), "setsockopt");
}
