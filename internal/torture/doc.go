// Package torture has no code, only tests of hull as a whole that are hard on it: processes killed at any instant, many at
// once, much output, full disks, the clock of restarts. They run the real hull ($HULL_BIN, or this test's binary as one)
// against root directories of their own, and print a seed by which a failure can be had again: HULL_TEST_SEED chooses one,
// HULL_TEST_ROUNDS how many rounds there are.
package torture
