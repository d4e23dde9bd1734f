#include "textflag.h"

// func cloneToSend(flags, stack uintptr, m *mail) (pid, errno uintptr)
//
// The child begins on another stack, so what it needs waits in a register, which the kernel keeps.
TEXT ·cloneToSend(SB), NOSPLIT, $0-40
	MOVQ flags+0(FP), DI
	MOVQ stack+8(FP), SI
	MOVQ m+16(FP), R9
	XORL DX, DX
	XORL R10, R10
	XORL R8, R8
	MOVL $56, AX // clone
	SYSCALL
	TESTQ AX, AX
	JEQ child
	CMPQ AX, $0xfffffffffffff001
	JCC failed
	MOVQ AX, pid+24(FP)
	MOVQ $0, errno+32(FP)
	RET

failed:
	NEGQ AX
	MOVQ $0, pid+24(FP)
	MOVQ AX, errno+32(FP)
	RET

child:
	SUBQ $32, SP
	MOVQ R9, 0(SP)
	CALL ·sendAndEnd(SB)
	INT $3
