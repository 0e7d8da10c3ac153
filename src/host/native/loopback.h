/*
 * One listening socket for every TCP port of a network namespace's loopback. Part of vmshim.c's one compilation.
 */
#pragma once
#include "bpf.h"
#include "values.h"

#include <arpa/inet.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <sys/socket.h>

/* On a port that the kernel chooses, for both IP families unless the kernel has only the older one. */
static napi_value listen_tcp(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int backlog, off = 0;
  if (!get_args(env, info, 1, argv) || !get_int(env, argv[0], "backlog", 0, &backlog)) return NULL;
  struct sockaddr_in6 both = {.sin6_family = AF_INET6};
  struct sockaddr_in four = {.sin_family = AF_INET};
  int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  bool older = fd < 0 && errno == EAFNOSUPPORT;
  if (older) fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return throw_errno(env, errno, "socket");
  if (!older && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) < 0) {
    return close_and_throw(env, fd, "setsockopt");
  }
  const struct sockaddr *address = older ? (const struct sockaddr *)&four : (const struct sockaddr *)&both;
  if (bind(fd, address, older ? sizeof four : sizeof both) < 0) return close_and_throw(env, fd, "bind");
  if (listen(fd, backlog) < 0) return close_and_throw(env, fd, "listen");
  return js_int(env, fd);
}

#define LOAD_FIELD(to, field) \
  INSN(BPF_LDX | BPF_MEM | BPF_W, to, BPF_REG_6, offsetof(struct bpf_sk_lookup, field), 0)
#define COPY(to, from) INSN(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define SET(to, constant) INSN(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, constant)
#define CALL(helper) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define UNLESS(reg, constant, distance) INSN(BPF_JMP32 | BPF_JNE | BPF_K, reg, 0, distance, constant)

/*
 * Gives what is looked up for 127.0.0.0/8 or ::1 to the socket in `map` (Documentation/bpf/prog_sk_lookup.rst). What the
 * socket is no match for, such as UDP, is looked up as ever.
 */
static int load_lookup(int map) {
  const int loopback4 = (int)htonl(0x7f000000), loopback6 = (int)htonl(1), net4 = (int)htonl(0xff000000);
  const struct bpf_insn program[] = {
      /*  0 */ COPY(BPF_REG_6, BPF_REG_1),
      /*  1 */ LOAD_FIELD(BPF_REG_2, family),
      /*  2 */ UNLESS(BPF_REG_2, AF_INET, 4),
      /*  3 */ LOAD_FIELD(BPF_REG_2, local_ip4),
      /*  4 */ INSN(BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, net4),
      /*  5 */ UNLESS(BPF_REG_2, loopback4, 23),
      /*  6 */ INSN(BPF_JMP | BPF_JA, 0, 0, 8, 0),
      /*  7 */ LOAD_FIELD(BPF_REG_2, local_ip6[0]),
      /*  8 */ UNLESS(BPF_REG_2, 0, 20),
      /*  9 */ LOAD_FIELD(BPF_REG_2, local_ip6[1]),
      /* 10 */ UNLESS(BPF_REG_2, 0, 18),
      /* 11 */ LOAD_FIELD(BPF_REG_2, local_ip6[2]),
      /* 12 */ UNLESS(BPF_REG_2, 0, 16),
      /* 13 */ LOAD_FIELD(BPF_REG_2, local_ip6[3]),
      /* 14 */ UNLESS(BPF_REG_2, loopback6, 14),
      /* 15 */ INSN(BPF_ST | BPF_MEM | BPF_W, BPF_REG_10, 0, -4, 0),
      /* 16 */ COPY(BPF_REG_2, BPF_REG_10),
      /* 17 */ INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -4),
      /* 18 */ INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map),
      /* 19 */ INSN(0, 0, 0, 0, 0),
      /* 20 */ CALL(BPF_FUNC_map_lookup_elem),
      /* 21 */ INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 7, 0),
      /* 22 */ COPY(BPF_REG_7, BPF_REG_0),
      /* 23 */ COPY(BPF_REG_1, BPF_REG_6),
      /* 24 */ COPY(BPF_REG_2, BPF_REG_7),
      /* 25 */ SET(BPF_REG_3, 0),
      /* 26 */ CALL(BPF_FUNC_sk_assign),
      /* 27 */ COPY(BPF_REG_1, BPF_REG_7),
      /* 28 */ CALL(BPF_FUNC_sk_release),
      /* 29 */ SET(BPF_REG_0, SK_PASS),
      /* 30 */ INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
  };
  union bpf_attr attr = {0};
  attr.prog_type = BPF_PROG_TYPE_SK_LOOKUP;
  attr.expected_attach_type = BPF_SK_LOOKUP;
  attr.insn_cnt = sizeof program / sizeof program[0];
  attr.insns = (uint64_t)(uintptr_t)program;
  attr.license = (uint64_t)(uintptr_t) "Apache-2.0";
  /* The verifier gives up with EAGAIN when a signal waits for us, which is handled only after we are back. */
  int loaded, attempts = 5;
  do loaded = bpf_call(BPF_PROG_LOAD, &attr);
  while (loaded < 0 && errno == EAGAIN && --attempts > 0);
  return loaded;
}

/* The link holds the program, that the map, that the socket. */
static napi_value catch_loopback(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int netns, listener;
  if (!get_args(env, info, 2, argv) || !get_fd(env, argv[0], "netns", &netns) ||
      !get_fd(env, argv[1], "listener", &listener)) {
    return NULL;
  }
  uint32_t key = 0;
  uint64_t value = (uint64_t)listener;
  union bpf_attr create = {0}, update = {0}, link = {0};
  create.map_type = BPF_MAP_TYPE_SOCKMAP;
  create.key_size = sizeof key;
  create.value_size = sizeof value;
  create.max_entries = 1;
  int map = bpf_call(BPF_MAP_CREATE, &create);
  if (map < 0) return throw_errno(env, errno, "BPF_MAP_CREATE");
  update.map_fd = (uint32_t)map;
  update.key = (uint64_t)(uintptr_t)&key;
  update.value = (uint64_t)(uintptr_t)&value;
  if (bpf_call(BPF_MAP_UPDATE_ELEM, &update) < 0) return close_and_throw(env, map, "BPF_MAP_UPDATE_ELEM");
  int program = load_lookup(map);
  if (program < 0) return close_and_throw(env, map, "BPF_PROG_LOAD");
  close(map);
  link.link_create.prog_fd = (uint32_t)program;
  link.link_create.target_fd = (uint32_t)netns;
  link.link_create.attach_type = BPF_SK_LOOKUP;
  int made = bpf_call(BPF_LINK_CREATE, &link);
  if (made < 0) return close_and_throw(env, program, "BPF_LINK_CREATE");
  close(program);
  return js_int(env, made);
}
