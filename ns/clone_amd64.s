#include "textflag.h"

// func clone3(args *cloneArgs, size uintptr, first, next *script) (pid, errno uintptr)
//
// The child begins on another stack, so what it needs waits in registers, which the kernel keeps but for AX, CX and R11.
TEXT ·clone3(SB), NOSPLIT, $0-48
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ first+16(FP), R8
	MOVQ next+24(FP), R9
	MOVL $435, AX // clone3
	SYSCALL
	TESTQ AX, AX
	JEQ child
	CMPQ AX, $0xfffffffffffff001
	JCC failed
	MOVQ AX, pid+32(FP)
	MOVQ $0, errno+40(FP)
	RET

failed:
	NEGQ AX
	MOVQ $0, pid+32(FP)
	MOVQ AX, errno+40(FP)
	RET

child:
	SUBQ $32, SP
	MOVQ R8, 0(SP)
	MOVQ R9, 8(SP)
	CALL ·performBoth(SB)
	INT $3

// func cloneFoster(args *cloneArgs, size uintptr, f *foster) (pid, errno uintptr)
TEXT ·cloneFoster(SB), NOSPLIT, $0-40
	MOVQ args+0(FP), DI
	MOVQ size+8(FP), SI
	MOVQ f+16(FP), R8
	MOVL $435, AX // clone3
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
	MOVQ R8, 0(SP)
	CALL ·performFoster(SB)
	INT $3
