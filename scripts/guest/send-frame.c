/*
 * send-frame NIC HEX...: sends each frame, from its destination address on, exactly as it is given.
 * What a guest's kernel would never send, a guest with root can: that is what the spoof guard is tested with.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char **argv) {
  struct sockaddr_ll nic = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
  int fd = socket(AF_PACKET, SOCK_RAW, 0);
  if (argc < 3 || fd < 0 || (nic.sll_ifindex = (int)if_nametoindex(argv[1])) == 0) {
    puts("send-frame: no such interface");
    return 1;
  }
  for (int i = 2; i < argc; i++) {
    unsigned char frame[2048];
    size_t length = strlen(argv[i]) / 2;
    for (size_t at = 0; at < length && at < sizeof frame; at++) {
      unsigned int byte;
      if (sscanf(argv[i] + 2 * at, "%2x", &byte) != 1) return 1;
      frame[at] = (unsigned char)byte;
    }
    if (sendto(fd, frame, length, 0, (struct sockaddr *)&nic, sizeof nic) != (ssize_t)length) {
      perror("send-frame");
      return 1;
    }
  }
  printf("sent %d\n", argc - 2);
  return 0;
}
