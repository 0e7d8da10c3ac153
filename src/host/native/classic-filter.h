/*
 * Classic BPF programs as eBPF ones, which can be given to what takes a descriptor. Part of vmshim.c's one compilation.
 */
#pragma once
#include "bpf.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#define LONGEST_TRANSLATION 6

/*
 * One instruction of classic BPF in those of eBPF: accumulator R0, index R7, scratch word 0 on the stack, packet R6, R8 free.
 * Distances of jumps are filled in by the caller, who knows where everything lies. The subset that bpf-program.ts assembles.
 */
static int translate(const struct sock_filter *from, struct bpf_insn *to) {
  const uint32_t mark = (uint32_t)SKF_AD_OFF + SKF_AD_MARK;
  int n = 0;
  switch (from->code) {
    case BPF_LD | BPF_W | BPF_ABS:
      if (from->k == mark) {
        to[n++] = INSN(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_0, BPF_REG_6, offsetof(struct __sk_buff, mark), 0);
        return n;
      }
      /* fall through */
    case BPF_LD | BPF_H | BPF_ABS:
    case BPF_LD | BPF_B | BPF_ABS:
      if (from->k >= (uint32_t)SKF_LL_OFF) return -1;
      to[n++] = INSN(from->code, 0, 0, 0, from->k);
      return n;
    case BPF_LD | BPF_H | BPF_IND:
    case BPF_LD | BPF_B | BPF_IND:
      to[n++] = INSN(from->code, 0, BPF_REG_7, 0, from->k);
      return n;
    case BPF_LDX | BPF_W | BPF_IMM:
      to[n++] = INSN(BPF_ALU | BPF_MOV | BPF_K, BPF_REG_7, 0, 0, from->k);
      return n;
    case BPF_ST:
      to[n++] = INSN(BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, BPF_REG_0, -4, 0);
      return from->k == 0 ? n : -1;
    case BPF_LD | BPF_W | BPF_MEM:
      to[n++] = INSN(BPF_LDX | BPF_MEM | BPF_W, BPF_REG_0, BPF_REG_10, -4, 0);
      return from->k == 0 ? n : -1;
    case BPF_ALU | BPF_ADD | BPF_K:
    case BPF_ALU | BPF_AND | BPF_K:
    case BPF_ALU | BPF_LSH | BPF_K:
      to[n++] = INSN(from->code, BPF_REG_0, 0, 0, from->k);
      return n;
    case BPF_ALU | BPF_ADD | BPF_X:
      to[n++] = INSN(from->code, BPF_REG_0, BPF_REG_7, 0, 0);
      return n;
    case BPF_MISC | BPF_TAX:
      to[n++] = INSN(BPF_ALU | BPF_MOV | BPF_X, BPF_REG_7, BPF_REG_0, 0, 0);
      return n;
    case BPF_LDX | BPF_B | BPF_MSH:
      to[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_8, BPF_REG_0, 0, 0);
      to[n++] = INSN(BPF_LD | BPF_B | BPF_ABS, 0, 0, 0, from->k);
      to[n++] = INSN(BPF_ALU | BPF_AND | BPF_K, BPF_REG_0, 0, 0, 0xf);
      to[n++] = INSN(BPF_ALU | BPF_LSH | BPF_K, BPF_REG_0, 0, 0, 2);
      to[n++] = INSN(BPF_ALU | BPF_MOV | BPF_X, BPF_REG_7, BPF_REG_0, 0, 0);
      to[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_0, BPF_REG_8, 0, 0);
      return n;
    case BPF_JMP | BPF_JA:
      to[n++] = INSN(BPF_JMP | BPF_JA, 0, 0, 0, 0);
      return n;
    case BPF_JMP | BPF_JEQ | BPF_K:
    case BPF_JMP | BPF_JSET | BPF_K:
      to[n++] = INSN(BPF_JMP32 | BPF_OP(from->code) | BPF_K, BPF_REG_0, 0, 0, from->k);
      to[n++] = INSN(BPF_JMP | BPF_JA, 0, 0, 0, 0);
      return n;
    case BPF_RET | BPF_K:
      to[n++] = INSN(BPF_ALU | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, from->k);
      to[n++] = INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
      return n;
    default:
      return -1;
  }
}

/* A program of type BPF_PROG_TYPE_SOCKET_FILTER that does what the classic one does; -1 with errno. */
static int load_filter(const struct sock_fprog *classic) {
  struct bpf_insn *program = calloc((size_t)classic->len * LONGEST_TRANSLATION + 1, sizeof *program);
  int *begin = calloc((size_t)classic->len + 1, sizeof *begin);
  int fd = -1;
  if (program == NULL || begin == NULL) goto out;
  int length = 0;
  program[length++] = INSN(BPF_ALU64 | BPF_MOV | BPF_X, BPF_REG_6, BPF_REG_1, 0, 0);
  for (int i = 0; i < classic->len; i++) {
    begin[i] = length;
    int count = translate(&classic->filter[i], program + length);
    if (count < 0) {
      errno = EINVAL;
      goto out;
    }
    length += count;
  }
  begin[classic->len] = length;
  for (int i = 0; i < classic->len; i++) {
    const struct sock_filter *from = &classic->filter[i];
    if (BPF_CLASS(from->code) != BPF_JMP) continue;
    bool always = BPF_OP(from->code) == BPF_JA;
    uint32_t then = (uint32_t)i + 1 + (always ? from->k : from->jt), other = (uint32_t)i + 1 + from->jf;
    if (then >= classic->len || other >= classic->len) {
      errno = EINVAL;
      goto out;
    }
    program[begin[i]].off = (int16_t)(begin[then] - begin[i] - 1);
    if (!always) program[begin[i] + 1].off = (int16_t)(begin[other] - begin[i] - 2);
  }
  union bpf_attr attr = {0};
  attr.prog_type = BPF_PROG_TYPE_SOCKET_FILTER;
  attr.insn_cnt = (uint32_t)length;
  attr.insns = (uint64_t)(uintptr_t)program;
  attr.license = (uint64_t)(uintptr_t)"Apache-2.0";
  /* Verification is interrupted by a pending signal. */
  for (int tries = 0; tries < 5 && (fd = bpf_call(BPF_PROG_LOAD, &attr)) < 0 && errno == EAGAIN; tries++) continue;
out:;
  int error = errno;
  free(program);
  free(begin);
  errno = error;
  return fd;
}
