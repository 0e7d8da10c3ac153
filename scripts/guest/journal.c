/*
 * journal run|verify DEVICE OFFSET_MIB SEED FLUSHED|auto: proves that a disk keeps what it has acknowledged.
 *
 * Every generation writes 8 blocks of 4 KiB with their place, generation and checksum in them, waits for fsync and says
 * "flushed N" on stdout. The places go round a ring of 32 MiB, so that a generation stands until it is overwritten by a
 * much later one. FLUSHED is the last generation that somebody outside has seen as flushed: `verify` demands that every
 * block which one of those wrote is there, of that generation or a later one, and says "journal ok" or "journal BAD" with
 * the first that is not; `run` then goes on writing from FLUSHED + 1, for ever. Generations that are written again have the
 * same contents, so that those up to FLUSHED are always all that has to be there.
 *
 * FLUSHED `auto` leaves it to whoever reads along to judge what has to be there, so that every boot of a machine has the same
 * command line. The guest then finds out by itself up to which generation all is there (one is begun when the one before it
 * is flushed), counts its boots in a block of its own behind everything else, and says which boot it is in each line, and the
 * number of the line's generation once more at its end, so that a line that lost a part on its way is told from others:
 * "journal holds N boot B blocks K =N", then "flushed N boot B =N", fifty times a second at most.
 *
 * Behind the ring lies as much again that is written and discarded without being verified, so that the disk image goes on
 * allocating and freeing clusters.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BLOCK = 4096, PER_GENERATION = 8, SLOTS = 8192, DISCARD = 1 << 20, DISCARD_EVERY = 16, PAUSE_US = 20000 };
static const uint32_t MAGIC = 0x6a726e6c;

struct block {
  uint32_t magic, crc;
  uint64_t slot, generation, seed;
  unsigned char filler[BLOCK - 32];
};

static int disk;
static uint64_t base, seed;

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/* Reflected CRC-32 with polynomial 0x04c11db7, as zlib's. */
static uint32_t crc32(const unsigned char *bytes, size_t length) {
  static uint32_t table[256];
  if (table[1] == 0)
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t c = i;
      for (int k = 0; k < 8; k++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
      table[i] = c;
    }
  uint32_t crc = ~0u;
  for (size_t i = 0; i < length; i++) crc = table[(crc ^ bytes[i]) & 0xff] ^ (crc >> 8);
  return ~crc;
}

static uint32_t checksum(const struct block *block) {
  return crc32((const unsigned char *)&block->slot, BLOCK - offsetof(struct block, slot));
}

/* Neighbours in the ring lie apart on the disk: an odd factor permutes a power of two. */
static uint64_t place(uint64_t slot) { return base + slot * 2731 % SLOTS * BLOCK; }

static void fill(struct block *block, uint64_t slot, uint64_t generation) {
  *block = (struct block){.magic = MAGIC, .slot = slot, .generation = generation, .seed = seed};
  uint64_t state = mix(seed ^ mix(generation * PER_GENERATION ^ slot << 40));
  for (size_t i = 0; i < sizeof block->filler; i += sizeof state) {
    state = mix(state + 0x9e3779b97f4a7c15u);
    memcpy(block->filler + i, &state, sizeof state);
  }
  block->crc = checksum(block);
}

static int fail(const char *what, uint64_t generation) {
  printf("journal failed: %s of generation %llu: %s\n", what, (unsigned long long)generation, strerror(errno));
  return 1;
}

/* The last generation up to `flushed` that wrote into a slot; 0 where none did. Generation 1 begins at slot 8. */
static uint64_t wanted(uint64_t slot, uint64_t flushed) {
  const uint64_t round = SLOTS / PER_GENERATION, first = slot / PER_GENERATION;
  if (flushed < first) return 0;
  return flushed - (flushed - first) % round;
}

static int verify(uint64_t flushed, uint64_t boot) {
  static struct block block;
  uint64_t newest = 0, checked = 0;
  for (uint64_t slot = 0; slot < SLOTS; slot++) {
    const uint64_t least = wanted(slot, flushed);
    if (least == 0) continue;
    const char *wrong = NULL;
    if (pread(disk, &block, BLOCK, place(slot)) != BLOCK) return fail("read", least);
    if (block.magic != MAGIC) wrong = "no block of ours";
    else if (block.crc != checksum(&block)) wrong = "wrong checksum";
    else if (block.seed != seed) wrong = "another journal's";
    else if (block.slot != slot) wrong = "another slot's";
    else if (block.generation < least) wrong = "older than what was flushed";
    else if (block.generation % (SLOTS / PER_GENERATION) != slot / PER_GENERATION) wrong = "a generation that never was here";
    if (wrong != NULL) {
      printf("journal BAD: slot %llu has %s: generation %llu, needs %llu\n", (unsigned long long)slot, wrong,
             (unsigned long long)block.generation, (unsigned long long)least);
      return 1;
    }
    if (block.generation > newest) newest = block.generation;
    checked++;
  }
  if (boot > 0) {
    printf("journal holds %llu boot %llu blocks %llu =%llu\n", (unsigned long long)flushed, (unsigned long long)boot,
           (unsigned long long)checked, (unsigned long long)flushed);
    return 0;
  }
  printf("journal ok: %llu blocks up to generation %llu, newest %llu\n", (unsigned long long)checked,
         (unsigned long long)flushed, (unsigned long long)newest);
  return 0;
}

/* The last generation that is on the disk as a whole: all but the newest, which may have been under way, must be. */
static uint64_t find_complete(void) {
  static struct block block;
  uint64_t newest = 0;
  int blocks_of_newest = 0;
  for (uint64_t slot = 0; slot < SLOTS; slot++) {
    if (pread(disk, &block, BLOCK, place(slot)) != BLOCK || block.magic != MAGIC || block.crc != checksum(&block)) continue;
    if (block.generation > newest) newest = block.generation, blocks_of_newest = 0;
    if (block.generation == newest) blocks_of_newest++;
  }
  return newest == 0 || blocks_of_newest == PER_GENERATION ? newest : newest - 1;
}

/* Number of this boot, from 1. */
static uint64_t count_boot(void) {
  static struct block block;
  const uint64_t place_of_count = base + 2 * (uint64_t)SLOTS * BLOCK;
  const int known = pread(disk, &block, BLOCK, place_of_count) == BLOCK && block.magic == MAGIC && block.crc == checksum(&block);
  const uint64_t boot = known ? block.generation + 1 : 1;
  fill(&block, ~1ull, boot);
  if (pwrite(disk, &block, BLOCK, place_of_count) != BLOCK || fsync(disk) != 0) return 0;
  return boot;
}

/* What it does to the disk is nobody's data. */
static int scratch(uint64_t generation) {
  static struct block noise;
  const uint64_t area = base + (uint64_t)SLOTS * BLOCK, at = mix(seed + generation);
  fill(&noise, ~0ull, generation);
  if (pwrite(disk, &noise, BLOCK, area + at % SLOTS * BLOCK) != BLOCK) return fail("write", generation);
  if (generation % DISCARD_EVERY != 0) return 0;
  uint64_t range[2] = {area + at / SLOTS % ((uint64_t)SLOTS * BLOCK / DISCARD) * DISCARD, DISCARD};
  if (ioctl(disk, BLKDISCARD, range) != 0 && errno != EOPNOTSUPP) return fail("discard", generation);
  return 0;
}

static int run(uint64_t flushed, uint64_t boot) {
  static struct block block;
  for (uint64_t generation = flushed + 1;; generation++) {
    for (int i = 0; i < PER_GENERATION; i++) {
      const uint64_t slot = (generation * PER_GENERATION + i) % SLOTS;
      fill(&block, slot, generation);
      if (pwrite(disk, &block, BLOCK, place(slot)) != BLOCK) return fail("write", generation);
    }
    if (scratch(generation) != 0) return 1;
    if (fsync(disk) != 0) return fail("flush", generation);
    if (boot == 0) {
      printf("flushed %llu\n", (unsigned long long)generation);
      continue;
    }
    printf("flushed %llu boot %llu =%llu\n", (unsigned long long)generation, (unsigned long long)boot,
           (unsigned long long)generation);
    usleep(PAUSE_US);
  }
}

int main(int count, char **arguments) {
  if (count != 6) return fprintf(stderr, "usage: journal run|verify DEVICE OFFSET_MIB SEED FLUSHED|auto\n"), 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  disk = open(arguments[2], O_RDWR | O_CLOEXEC);
  if (disk < 0) return fail("open", 0);
  base = strtoull(arguments[3], NULL, 10) << 20;
  seed = strtoull(arguments[4], NULL, 10);
  const int automatic = strcmp(arguments[5], "auto") == 0;
  const uint64_t flushed = automatic ? find_complete() : strtoull(arguments[5], NULL, 10);
  const uint64_t boot = automatic ? count_boot() : 0;
  if (automatic && boot == 0) return fail("count", 0);
  const int status = verify(flushed, boot);
  return status != 0 || strcmp(arguments[1], "run") != 0 ? status : run(flushed, boot);
}
