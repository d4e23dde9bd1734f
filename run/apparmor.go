package run

import (
	"fmt"

	"github.com/hullrun/hull/ns"
)

// defaultAppArmor is the profile that Docker makes and gives to its containers.
const defaultAppArmor = "docker-default"

// appArmor is the AppArmor profile for a container, "" for none. Docker's default is taken where it is loaded already, by
// root, as Docker does: hull loads no profile. A profile that is asked for by name has to be there.
func (h *Host) appArmor(i *IsolationConfig) (string, error) {
	switch name := i.Security.AppArmor; {
	case name == ns.AppArmorUnconfined:
		return "", nil
	case name != "" && !ns.AppArmorEnabled():
		return "", fmt.Errorf("security-opt %q: this kernel has no AppArmor, or has it switched off: apparmor=unconfined does without", "apparmor="+name)
	case name != "":
		return name, nil
	case i.Privileged || h.rootless || !ns.AppArmorLoaded(defaultAppArmor):
		return "", nil
	}
	return defaultAppArmor, nil
}
