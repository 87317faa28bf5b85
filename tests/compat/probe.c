/* The application of the comparison: writes down everything that it inherited, then stays, exits or dies as told.
 *
 *     probe REPORT stay|exit:N|signal:N [anything]
 *
 * The report is REPORT.PID, complete from the moment it exists. Static and without /proc, because it runs in chroots. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

extern char **environ;

static const char *kind(int fd) {
    struct stat found;
    if (fstat(fd, &found) != 0) return "?";
    switch (found.st_mode & S_IFMT) {
    case S_IFSOCK: return "socket";
    case S_IFCHR: return "character device";
    case S_IFREG: return "file";
    case S_IFIFO: return "pipe";
    case S_IFDIR: return "directory";
    default: return "other";
    }
}

static void report_listener(FILE *out) {
    struct sockaddr_storage name;
    socklen_t length = sizeof name;
    int listens = 0;
    socklen_t listens_length = sizeof listens;
    char text[INET6_ADDRSTRLEN] = "";
    memset(&name, 0, sizeof name);
    if (getsockname(0, (struct sockaddr *)&name, &length) != 0) {
        fprintf(out, "listener: none\n");
        return;
    }
    getsockopt(0, SOL_SOCKET, SO_ACCEPTCONN, &listens, &listens_length);
    int flags = fcntl(0, F_GETFL);
    fprintf(out, "listener: listens=%d nonblocking=%d ", listens, !!(flags & O_NONBLOCK));
    if (name.ss_family == AF_UNIX) {
        fprintf(out, "unix %s\n", ((struct sockaddr_un *)&name)->sun_path);
        return;
    }
    struct tcp_info info;
    socklen_t info_length = sizeof info;
    int reuse = 0, only6 = 0;
    socklen_t reuse_length = sizeof reuse, only6_length = sizeof only6;
    memset(&info, 0, sizeof info);
    getsockopt(0, IPPROTO_TCP, TCP_INFO, &info, &info_length);
    getsockopt(0, SOL_SOCKET, SO_REUSEADDR, &reuse, &reuse_length);
    if (name.ss_family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&name;
        getsockopt(0, IPPROTO_IPV6, IPV6_V6ONLY, &only6, &only6_length);
        inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof text);
        fprintf(out, "tcp6 %s port %d only6=%d", text, ntohs(in6->sin6_port), only6);
    } else {
        struct sockaddr_in *in4 = (struct sockaddr_in *)&name;
        inet_ntop(AF_INET, &in4->sin_addr, text, sizeof text);
        fprintf(out, "tcp4 %s port %d", text, ntohs(in4->sin_port));
    }
    fprintf(out, " reuse=%d backlog=%u\n", reuse, info.tcpi_sacked);
}

static void report_signals(FILE *out) {
    sigset_t blocked;
    sigprocmask(SIG_BLOCK, NULL, &blocked);
    fprintf(out, "ignored:");
    for (int signal = 1; signal < 32; signal++) {
        struct sigaction action;
        if (sigaction(signal, NULL, &action) == 0 && action.sa_handler == SIG_IGN) fprintf(out, " %d", signal);
    }
    fprintf(out, "\nblocked:");
    for (int signal = 1; signal < 32; signal++)
        if (sigismember(&blocked, signal) == 1) fprintf(out, " %d", signal);
    fprintf(out, "\n");
}

static void report_identity(FILE *out) {
    uid_t real, effective, saved;
    gid_t groups[64];
    getresuid(&real, &effective, &saved);
    fprintf(out, "uid: %u %u %u\n", real, effective, saved);
    getresgid(&real, &effective, &saved);
    fprintf(out, "gid: %u %u %u\n", real, effective, saved);
    int count = getgroups(64, groups);
    fprintf(out, "groups:");
    for (int i = 0; i < count; i++) fprintf(out, " %u", groups[i]);
    fprintf(out, "\n");
}

static void report_descriptors(FILE *out, int before_file) {
    for (int fd = 0; fd < before_file; fd++)
        if (fcntl(fd, F_GETFD) != -1) fprintf(out, "fd %d: %s\n", fd, kind(fd));
}

int main(int argc, char **argv) {
    char path[4096], temporary[4200], directory[4096];
    if (argc < 3) return 99;
    snprintf(path, sizeof path, "%s.%d", argv[1], (int)getpid());
    snprintf(temporary, sizeof temporary, "%s.new", path);
    mode_t mask = umask(0);
    /* Far above all that may have been inherited, so that the report's own descriptor is not in it. */
    int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
    if (file == -1) return 98;
    int high = fcntl(file, F_DUPFD, 200);
    close(file);
    FILE *out = fdopen(high, "w");
    if (!out) return 97;
    report_descriptors(out, 200);
    report_listener(out);
    report_identity(out);
    report_signals(out);
    fprintf(out, "umask: %03o\n", mask);
    fprintf(out, "cwd: %s\n", getcwd(directory, sizeof directory) ? directory : strerror(errno));
    fprintf(out, "session: %s\n", getsid(0) == getpid() ? "own" : "inherited");
    for (char **arg = argv; *arg; arg++) fprintf(out, "arg: %s\n", *arg);
    for (char **entry = environ; *entry; entry++) fprintf(out, "env: %s\n", *entry);
    fclose(out);
    if (rename(temporary, path) != 0) return 96;
    if (strncmp(argv[2], "exit:", 5) == 0) return atoi(argv[2] + 5);
    if (strncmp(argv[2], "signal:", 7) == 0) raise(atoi(argv[2] + 7));
    for (;;) pause();
}
