# What the tests run containers under: all is allowed but two things that nothing else forbids.
profile hull-test flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  unix,
  umount,
  mount,
  pivot_root,
  deny /forbidden/** rwklx,
  deny capability chown,
}

# Docker's name for its own, which root's containers get without being asked.
profile docker-default flags=(attach_disconnected,mediate_deleted) {
  file,
  capability,
  network,
  signal,
  ptrace,
  unix,
  umount,
  mount,
  deny /forbidden-by-default/** rwklx,
}
