/*
 * The kernel's BPF machine, bpf(2). Part of vmshim.c's one compilation.
 */
#pragma once
#include <linux/bpf.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf_call(enum bpf_cmd command, union bpf_attr *attr) {
  return (int)syscall(SYS_bpf, command, attr, sizeof *attr);
}

/* One instruction of the BPF machine (Documentation/bpf/standardization/instruction-set.rst). */
#define INSN(op, to, from, distance, constant)                                                     \
  (struct bpf_insn) { .code = (op), .dst_reg = (to), .src_reg = (from), .off = (distance), .imm = (int32_t)(constant) }
