#include "textflag.h"

// func clone3(args *cloneArgs, size uintptr, first, next *script) (pid, errno uintptr)
//
// The child begins on another stack, so what it needs waits in registers, which the kernel keeps but for R0.
TEXT ·clone3(SB), NOSPLIT, $0-48
	MOVD args+0(FP), R0
	MOVD size+8(FP), R1
	MOVD first+16(FP), R9
	MOVD next+24(FP), R10
	MOVD $435, R8 // clone3
	SVC
	CBZ R0, child
	CMN $4095, R0
	BCC born
	NEG R0, R0
	MOVD ZR, pid+32(FP)
	MOVD R0, errno+40(FP)
	RET

born:
	MOVD R0, pid+32(FP)
	MOVD ZR, errno+40(FP)
	RET

child:
	SUB $32, RSP
	MOVD R9, 8(RSP)
	MOVD R10, 16(RSP)
	BL ·performBoth(SB)
	BRK

// func cloneFoster(args *cloneArgs, size uintptr, f *foster) (pid, errno uintptr)
TEXT ·cloneFoster(SB), NOSPLIT, $0-40
	MOVD args+0(FP), R0
	MOVD size+8(FP), R1
	MOVD f+16(FP), R9
	MOVD $435, R8 // clone3
	SVC
	CBZ R0, child
	CMN $4095, R0
	BCC born
	NEG R0, R0
	MOVD ZR, pid+24(FP)
	MOVD R0, errno+32(FP)
	RET

born:
	MOVD R0, pid+24(FP)
	MOVD ZR, errno+32(FP)
	RET

child:
	SUB $32, RSP
	MOVD R9, 8(RSP)
	BL ·performFoster(SB)
	BRK
