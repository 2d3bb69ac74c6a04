/*
 * Preloaded into a daemon: what it connects to goes through the proxy of tcpnet.py.
 *
 * Machine N is 127.77.0.N here. A connection from machine S to 127.77.0.D port P is made from the
 * address 127.77.0.S to 127.(128 + D).(P / 256).(P % 256), port of the proxy: so the proxy knows
 * who means whom without a byte of its own on the wire. FAULTS_PROXY=S:PORT says the rest.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#define MACHINES 0x7f4d0000u /* 127.77.0.0 */

int connect(int fd, const struct sockaddr *to, socklen_t size)
{
    static int (*real)(int, const struct sockaddr *, socklen_t);
    struct sockaddr_in wanted, from = {.sin_family = AF_INET};
    const char *setting = getenv("FAULTS_PROXY");
    unsigned self = 0, proxy = 0, one = 1;

    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "connect");
    if (!setting || sscanf(setting, "%u:%u", &self, &proxy) != 2) return real(fd, to, size);
    if (size < sizeof(wanted) || to->sa_family != AF_INET) return real(fd, to, size);
    wanted = *(const struct sockaddr_in *)to;
    uint32_t address = ntohl(wanted.sin_addr.s_addr), port = ntohs(wanted.sin_port);
    if ((address & 0xffffff00u) != MACHINES || (address & 0xff) == self)
        return real(fd, to, size);
    from.sin_addr.s_addr = htonl(MACHINES | self);
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one));
    if (bind(fd, (struct sockaddr *)&from, sizeof(from)) && errno != EINVAL) return -1;
    wanted.sin_addr.s_addr = htonl(127u << 24 | (128 + (address & 0xff)) << 16 | port);
    wanted.sin_port = htons((uint16_t)proxy);
    return real(fd, (struct sockaddr *)&wanted, sizeof(wanted));
}
