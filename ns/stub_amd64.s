#include "textflag.h"

// See stub.go. At entry SP points to argc, argv..., NULL, envp..., NULL; argv[0] is the socket, argv[1] the path.
// BX keeps the socket.

#define SYS_write       1
#define SYS_read        0
#define SYS_sigprocmask 14
#define SYS_ioctl       16
#define SYS_fork        57
#define SYS_execve      59
#define SYS_wait4       61
#define SYS_kill        62
#define SYS_fcntl       72
#define SYS_setsid      112
#define SYS_sigwait     128
#define SYS_prctl       157
#define SYS_exit_group  231
#define SYS_close       3

TEXT stub<>(SB), NOSPLIT|NOFRAME, $0
	MOVQ 8(SP), AX
	MOVBLZX 0(AX), BX
	MOVBLZX 1(AX), CX
	ANDL $0x3f, BX
	ANDL $0x3f, CX
	SHLL $6, CX
	ORL  CX, BX
	// fcntl(socket, F_SETFD, FD_CLOEXEC)
	MOVL BX, DI
	MOVL $2, SI
	MOVL $1, DX
	MOVL $SYS_fcntl, AX
	SYSCALL
	TESTQ AX, AX
	JNE refuse
	// execve(argv[1], &argv[2], envp)
	MOVQ 16(SP), DI
	LEAQ 24(SP), SI
	MOVQ 0(SP), CX
	LEAQ 16(SP)(CX*8), DX
	MOVL $SYS_execve, AX
	SYSCALL
	// write(socket, {'x', errno}, 8)
	NEGL AX
	SHLQ $32, AX
	ORQ  $0x78, AX
	MOVQ AX, -16(SP)
	MOVL BX, DI
	LEAQ -16(SP), SI
	MOVL $8, DX
	MOVL $SYS_write, AX
	SYSCALL
	MOVL $127, DI
	MOVL $SYS_exit_group, AX
	SYSCALL

refuse:
	// No such descriptor: the program is the stub again, by way of /proc/self/exe. That could go on for ever.
	MOVL $126, DI
	MOVL $SYS_exit_group, AX
	SYSCALL

TEXT stubEnd<>(SB), NOSPLIT|NOFRAME, $0
	INT $3

// -144(SP) siginfo_t (128 bytes), -152(SP) signal mask, -160(SP) wait status. R12 is the program's pid, R13 the status.
TEXT init<>(SB), NOSPLIT|NOFRAME, $0
	MOVQ 8(SP), AX
	MOVBLZX 0(AX), BX
	MOVBLZX 1(AX), CX
	ANDL $0x3f, BX
	ANDL $0x3f, CX
	SHLL $6, CX
	ORL  CX, BX
	// fcntl(socket, F_SETFD, FD_CLOEXEC), for both
	MOVL BX, DI
	MOVL $2, SI
	MOVL $1, DX
	MOVL $SYS_fcntl, AX
	SYSCALL
	TESTQ AX, AX
	JNE refuse
	// Block all signals: they are taken one by one below.
	MOVQ $-1, AX
	MOVQ AX, -152(SP)
	XORL DI, DI
	LEAQ -152(SP), SI
	XORL DX, DX
	MOVL $8, R10
	MOVL $SYS_sigprocmask, AX
	SYSCALL
	MOVL $SYS_fork, AX
	SYSCALL
	TESTQ AX, AX
	JNE parent
	// The program: an empty mask again, and on as the stub does.
	MOVQ $0, -152(SP)
	MOVL $2, DI
	LEAQ -152(SP), SI
	XORL DX, DX
	MOVL $8, R10
	MOVL $SYS_sigprocmask, AX
	SYSCALL
	MOVQ 16(SP), DI
	LEAQ 24(SP), SI
	MOVQ 0(SP), CX
	LEAQ 16(SP)(CX*8), DX
	MOVL $SYS_execve, AX
	SYSCALL
	NEGL AX
	SHLQ $32, AX
	ORQ  $0x78, AX
	MOVQ AX, -16(SP)
	MOVL BX, DI
	LEAQ -16(SP), SI
	MOVL $8, DX
	MOVL $SYS_write, AX
	SYSCALL
	MOVL $127, DI
	MOVL $SYS_exit_group, AX
	SYSCALL

parent:
	MOVL AX, R12
	MOVL BX, DI
	MOVL $SYS_close, AX
	SYSCALL

next:
	// sigwaitinfo(all)
	LEAQ -152(SP), DI
	LEAQ -144(SP), SI
	XORL DX, DX
	MOVL $8, R10
	MOVL $SYS_sigwait, AX
	SYSCALL
	TESTL AX, AX
	JLE next
	CMPL AX, $17 // SIGCHLD
	JEQ reap
	// The terminal sends its signals to the program itself: pass on only those of processes, whose si_code is not
	// positive.
	MOVL -136(SP), CX
	TESTL CX, CX
	JGT next
	MOVL R12, DI
	MOVL AX, SI
	MOVL $SYS_kill, AX
	SYSCALL
	JMP next

reap:
	MOVL $-1, DI
	LEAQ -160(SP), SI
	MOVL $1, DX // WNOHANG
	XORL R10, R10
	MOVL $SYS_wait4, AX
	SYSCALL
	TESTL AX, AX
	JLE next
	CMPL AX, R12
	JNE reap
	// The program has ended: with its status, or 128 and the signal.
	MOVL -160(SP), AX
	MOVL AX, DI
	SHRL $8, DI
	ANDL $0xff, DI
	ANDL $0x7f, AX
	JEQ exit
	LEAL 128(AX), DI

exit:
	MOVL $SYS_exit_group, AX
	SYSCALL

refuse:
	MOVL $126, DI
	JMP exit

TEXT initEnd<>(SB), NOSPLIT|NOFRAME, $0
	INT $3

// -144(SP) siginfo_t (128 bytes), -152(SP) signal mask, -160(SP) wait status. R12 holds the flags, the third letter of
// argv[0], R13 the program's pid.
TEXT join<>(SB), NOSPLIT|NOFRAME, $0
	MOVQ 8(SP), AX
	MOVBLZX 0(AX), BX
	MOVBLZX 1(AX), CX
	MOVBLZX 2(AX), R12
	ANDL $0x3f, BX
	ANDL $0x3f, CX
	SHLL $6, CX
	ORL  CX, BX
	// fcntl(socket, F_SETFD, FD_CLOEXEC)
	MOVL BX, DI
	MOVL $2, SI
	MOVL $1, DX
	MOVL $SYS_fcntl, AX
	SYSCALL
	TESTQ AX, AX
	JNE refuse
	// Block all signals: they are taken one by one below.
	MOVQ $-1, AX
	MOVQ AX, -152(SP)
	XORL DI, DI
	LEAQ -152(SP), SI
	XORL DX, DX
	MOVL $8, R10
	MOVL $SYS_sigprocmask, AX
	SYSCALL
	// prctl(PR_SET_PDEATHSIG, SIGTERM): until here it was SIGKILL
	MOVL $1, DI
	MOVL $15, SI
	MOVL $SYS_prctl, AX
	SYSCALL
	MOVL $SYS_fork, AX
	SYSCALL
	TESTQ AX, AX
	JEQ program
	MOVL AX, R13
	// write(socket, {'p', pid or -errno}, 8)
	SHLQ $32, AX
	ORQ  $0x70, AX
	MOVQ AX, -16(SP)
	MOVL BX, DI
	LEAQ -16(SP), SI
	MOVL $8, DX
	MOVL $SYS_write, AX
	SYSCALL
	MOVL $125, DI
	TESTL R13, R13
	JLE exit
	// What the program closes shall be closed.
	MOVL BX, DI
	MOVL $SYS_close, AX
	SYSCALL
	MOVL $2, BX

streams:
	MOVL BX, DI
	MOVL $SYS_close, AX
	SYSCALL
	SUBL $1, BX
	JGE streams

next:
	// sigwaitinfo(all)
	LEAQ -152(SP), DI
	LEAQ -144(SP), SI
	XORL DX, DX
	MOVL $8, R10
	MOVL $SYS_sigwait, AX
	SYSCALL
	MOVL $1, DX // WNOHANG
	CMPL AX, $17 // SIGCHLD
	JEQ reap
	CMPL AX, $15 // the parent has ended
	JEQ kill
	TESTL AX, AX
	JGT next
	CMPL AX, $-4 // EINTR
	JEQ next
	XORL DX, DX // a filter forbids it: then only wait

reap:
	MOVL R13, DI
	LEAQ -160(SP), SI
	XORL R10, R10
	MOVL $SYS_wait4, AX
	SYSCALL
	TESTL AX, AX
	JEQ next
	MOVL $125, DI
	CMPL AX, R13
	JNE exit
	// The program has ended: with its status, or 128 and the signal.
	MOVL -160(SP), AX
	MOVL AX, DI
	SHRL $8, DI
	ANDL $0xff, DI
	ANDL $0x7f, AX
	JEQ exit
	LEAL 128(AX), DI

exit:
	MOVL $SYS_exit_group, AX
	SYSCALL

kill:
	MOVL R13, DI
	MOVL $9, SI
	MOVL $SYS_kill, AX
	SYSCALL
	JMP next

program:
	// prctl(PR_SET_PDEATHSIG, SIGKILL). A filter may forbid it, and what follows: then the program does without.
	MOVL $1, DI
	MOVL $9, SI
	MOVL $SYS_prctl, AX
	SYSCALL
	MOVL $SYS_setsid, AX
	SYSCALL
	TESTL $1, R12
	JEQ unblock
	// ioctl(0, TIOCSCTTY, 0)
	XORL DI, DI
	MOVL $0x540e, SI
	XORL DX, DX
	MOVL $SYS_ioctl, AX
	SYSCALL

unblock:
	MOVQ $0, -152(SP)
	MOVL $2, DI
	LEAQ -152(SP), SI
	XORL DX, DX
	MOVL $8, R10
	MOVL $SYS_sigprocmask, AX
	SYSCALL

wait:
	// read(socket, one byte): the start; or nothing, if nobody will give it
	MOVL BX, DI
	LEAQ -16(SP), SI
	MOVL $1, DX
	MOVL $SYS_read, AX
	SYSCALL
	MOVL $125, DI
	CMPL AX, $-4 // EINTR
	JEQ wait
	CMPL AX, $1
	JNE exit
	// execve(argv[1], &argv[2], envp)
	MOVQ 16(SP), DI
	LEAQ 24(SP), SI
	MOVQ 0(SP), CX
	LEAQ 16(SP)(CX*8), DX
	MOVL $SYS_execve, AX
	SYSCALL
	// write(socket, {'x', errno}, 8)
	NEGL AX
	SHLQ $32, AX
	ORQ  $0x78, AX
	MOVQ AX, -16(SP)
	MOVL BX, DI
	LEAQ -16(SP), SI
	MOVL $8, DX
	MOVL $SYS_write, AX
	SYSCALL
	MOVL $127, DI
	JMP exit

refuse:
	MOVL $126, DI
	JMP exit

TEXT joinEnd<>(SB), NOSPLIT|NOFRAME, $0
	INT $3

// func stubCode() (start, end uintptr)
TEXT ·stubCode(SB), NOSPLIT, $0-16
	LEAQ stub<>(SB), AX
	MOVQ AX, start+0(FP)
	LEAQ stubEnd<>(SB), AX
	MOVQ AX, end+8(FP)
	RET

// func initCode() (start, end uintptr)
TEXT ·initCode(SB), NOSPLIT, $0-16
	LEAQ init<>(SB), AX
	MOVQ AX, start+0(FP)
	LEAQ initEnd<>(SB), AX
	MOVQ AX, end+8(FP)
	RET

// func joinCode() (start, end uintptr)
TEXT ·joinCode(SB), NOSPLIT, $0-16
	LEAQ join<>(SB), AX
	MOVQ AX, start+0(FP)
	LEAQ joinEnd<>(SB), AX
	MOVQ AX, end+8(FP)
	RET
