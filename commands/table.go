package commands

import (
	"strings"

	"github.com/xrash/smetrics"
)

// The headings of the list of commands.
const (
	groupContainers = "Containers"
	groupImages     = "Images"
	groupVolumes    = "Volumes"
	groupNetworks   = "Networks"
	groupHull       = "Hull"
)

// table is every command. It is a function, so that a start pays for no more than the rows.
func table() []verb {
	return []verb{
		{"run|container run|image run", "IMAGE [COMMAND] [ARG...]", 1, -1, "Run a command in a new container", groupContainers, true, runCommand},
		{"ps|container ls|container list|container ps", "", 0, 0, "List containers", groupContainers, false, psCommand},
		{"rm|container rm|container remove", "CONTAINER [CONTAINER...]", 1, -1, "Remove containers", groupContainers, false, rmCommand},
		{"create|container create", "IMAGE [COMMAND] [ARG...]", 1, -1, "Make a container without starting it", groupContainers, true, createCommand},
		{"start|container start", "CONTAINER [CONTAINER...]", 1, -1, "Start containers", groupContainers, false, startCommand},
		{"stop|container stop", "CONTAINER [CONTAINER...]", 1, -1, "Ask containers to end, and end them", groupContainers, false, stopCommand},
		{"restart|container restart", "CONTAINER [CONTAINER...]", 1, -1, "Stop containers and start them again", groupContainers, false, restartCommand},
		{"kill|container kill", "CONTAINER [CONTAINER...]", 1, -1, "Send containers a signal", groupContainers, false, killCommand},
		{"pause|container pause", "CONTAINER [CONTAINER...]", 1, -1, "Let all processes of containers stand still", groupContainers, false, pauseCommand},
		{"unpause|container unpause", "CONTAINER [CONTAINER...]", 1, -1, "Let paused containers go on", groupContainers, false, unpauseCommand},
		{"wait|container wait", "CONTAINER [CONTAINER...]", 1, -1, "Wait until containers have ended, and print their exit statuses", groupContainers, false, waitCommand},
		{"logs|container logs", "CONTAINER", 1, 1, "Show what a detached container has written", groupContainers, false, logsCommand},
		{"attach|container attach", "CONTAINER", 1, 1, "Connect with a detached container's streams", groupContainers, false, attachCommand},
		{"exec|container exec", "CONTAINER COMMAND [ARG...]", 2, -1, "Run a command in a running container", groupContainers, true, execCommand},
		{"rename|container rename", "CONTAINER NAME", 2, 2, "Give a container another name", groupContainers, false, renameCommand},
		{"update|container update", "CONTAINER [CONTAINER...]", 1, -1, "Change limits of containers, and when they start again", groupContainers, false, updateCommand},
		{"stats|container stats", "[CONTAINER...]", 0, -1, "Show what containers use: processors, memory, network, disks", groupContainers, false, statsCommand},
		{"top|container top", "CONTAINER [ps OPTIONS]", 1, -1, "Show the processes in a container", groupContainers, true, topCommand},
		{"port|container port", "CONTAINER [PORT[/PROTOCOL]]", 1, 2, "Show which ports of a container are published", groupContainers, false, portCommand},
		{"container prune", "", 0, 0, "Remove containers that do not run", groupContainers, false, containerPruneCommand},
		{"container inspect", "CONTAINER [CONTAINER...]", 1, -1, "Show all that is known of containers", groupContainers, false, containerInspectCommand},
		{"cp|container cp", "CONTAINER:SRC DST|- | SRC|- CONTAINER:DST", 2, 2, "Copy files between a container and the host", groupContainers, false, cpCommand},
		{"export|container export", "CONTAINER", 1, 1, "Write a container's file system as a tar", groupContainers, false, exportCommand},
		{"diff|container diff", "CONTAINER", 1, 1, "List what a container has changed in its image's files", groupContainers, false, diffCommand},
		{"commit|container commit", "CONTAINER [NAME[:TAG]]", 1, 2, "Make an image of a container and what it has changed", groupContainers, false, commitCommand},

		{"pull|image pull", "IMAGE", 1, 1, "Fetch an image from a registry, oci:DIR or an archive", groupImages, false, pullCommand},
		{"push|image push", "IMAGE", 1, 1, "Send an image to the registry in its name", groupImages, false, pushCommand},
		{"images|image ls|image list", "[REPOSITORY[:TAG]]", 0, 1, "List images", groupImages, false, imagesCommand},
		{"history|image history", "IMAGE", 1, 1, "Show how an image was made", groupImages, false, historyCommand},
		{"image inspect", "IMAGE [IMAGE...]", 1, -1, "Show all that is known of images", groupImages, false, imageInspectCommand},
		{"tag|image tag", "IMAGE NAME", 2, 2, "Give an image one more name", groupImages, false, tagCommand},
		{"untag|image untag", "IMAGE [NAME...]", 1, -1, "Take names away from an image, which stays", groupImages, false, untagCommand},
		{"image exists", "IMAGE", 1, 1, "Tell by the exit status whether there is an image", groupImages, false, imageExistsCommand},
		{"rmi|image rm|image remove", "IMAGE [IMAGE...]", 1, -1, "Remove images", groupImages, false, rmiCommand},
		{"image prune", "", 0, 0, "Remove images that nobody uses", groupImages, false, imagePruneCommand},
		{"save|image save", "IMAGE [IMAGE...]", 1, -1, "Write images to an archive", groupImages, false, saveCommand},
		{"load|image load", "", 0, 0, "Add the images of an archive", groupImages, false, loadCommand},
		{"import|image import", "FILE|URL|- [NAME[:TAG]]", 1, 2, "Make an image of a file system's tar", groupImages, false, importCommand},
		{"search", "[REGISTRY/]TERM", 1, 1, "Find images by their names at a registry", groupImages, false, searchCommand},
		{"lock", "[FILE|IMAGE...]", 0, -1, "Write down in hull.lock what the names of images stand for", groupImages, false, lockCommand},
		{"cache export", "[IMAGE...] FILE|-", 1, -1, "Write images to a file that stays the same while they do, for a cache", groupImages, false, cacheExportCommand},
		{"cache import", "FILE|-", 1, 1, "Add what is missing here of such a file", groupImages, false, cacheImportCommand},
		{"manifest inspect", "[INDEX] IMAGE", 1, 2, "Show an image's manifest or index at its registry", groupImages, false, manifestInspectCommand},
		{"manifest create", "INDEX IMAGE [IMAGE...]", 2, -1, "Put images together to an index, here", groupImages, false, manifestCreateCommand},
		{"manifest annotate", "INDEX IMAGE", 2, 2, "Say which platform an image in an index is for", groupImages, false, manifestAnnotateCommand},
		{"manifest push", "INDEX", 1, 1, "Send an index, and the images in it, to its registry", groupImages, false, manifestPushCommand},
		{"manifest rm", "INDEX [INDEX...]", 1, -1, "Forget indexes that are being put together here", groupImages, false, manifestRemoveCommand},
		{"buildx imagetools", "inspect IMAGE | create -t NAME SOURCE...", 1, -1, "Show what an image's name stands for at its registry, or make an index there", groupImages, false, imagetoolsCommand},
		{"login", "[REGISTRY]", 0, 1, "Log in to a registry", groupImages, false, loginCommand},
		{"logout", "[REGISTRY]", 0, 1, "Forget the login for a registry", groupImages, false, logoutCommand},
		{"registry serve", "[DIR]", 0, 1, "Be a registry, of what is in DIR or in a temporary folder", groupImages, false, registryServeCommand},

		{"volume create", "[VOLUME]", 0, 1, "Make a volume", groupVolumes, false, volumeCreateCommand},
		{"volume ls|volume list", "", 0, 0, "List volumes", groupVolumes, false, volumeListCommand},
		{"volume inspect", "VOLUME [VOLUME...]", 1, -1, "Show all that is known of volumes", groupVolumes, false, volumeInspectCommand},
		{"volume rm|volume remove", "VOLUME [VOLUME...]", 1, -1, "Remove volumes", groupVolumes, false, volumeRemoveCommand},
		{"volume prune", "", 0, 0, "Remove volumes that no container uses", groupVolumes, false, volumePruneCommand},
		{"volume export", "VOLUME", 1, 1, "Write the files of a volume as a tar", groupVolumes, false, volumeExportCommand},
		{"volume import", "VOLUME [FILE]", 1, 2, "Put the files of a tar into a volume", groupVolumes, false, volumeImportCommand},
		{"volume exists", "VOLUME", 1, 1, "Tell by the exit status whether there is a volume", groupVolumes, false, volumeExistsCommand},

		{"network create", "NETWORK", 1, 1, "Make a network", groupNetworks, false, networkCreateCommand},
		{"network ls|network list", "", 0, 0, "List networks", groupNetworks, false, networkListCommand},
		{"network inspect", "NETWORK [NETWORK...]", 1, -1, "Show all that is known of networks", groupNetworks, false, networkInspectCommand},
		{"network rm|network remove", "NETWORK [NETWORK...]", 1, -1, "Remove networks", groupNetworks, false, networkRemoveCommand},
		{"network prune", "", 0, 0, "Remove networks that no container uses", groupNetworks, false, networkPruneCommand},
		{"network connect", "NETWORK CONTAINER", 2, 2, "Attach a container to one more network", groupNetworks, false, networkConnectCommand},
		{"network disconnect", "NETWORK CONTAINER", 2, 2, "Take a container off a network", groupNetworks, false, networkDisconnectCommand},

		{"inspect", "NAME|ID [NAME|ID...]", 1, -1, "Show all that is known of containers, images and volumes", groupHull, false, inspectCommand},
		{"events|system events", "", 0, 0, "Show what happens to containers, images and volumes", groupHull, false, eventsCommand},
		{"system check", "", 0, 0, "Find what an unclean end has left, and mend it with --repair", groupHull, false, systemCheckCommand},
		{"system df", "", 0, 0, "Show what images, containers and volumes take up on the disk", groupHull, false, systemDfCommand},
		{"system prune", "", 0, 0, "Remove what is not used", groupHull, false, systemPruneCommand},
		{"info|system info", "", 0, 0, "Show what this host can do and what it holds", groupHull, false, infoCommand},
		{"system service", "install|remove|print|start|stop", 1, 1, "Start containers after a reboot, if their restart policy says so (by way of systemd)", groupHull, false, serviceCommand},
		{"version", "", 0, 0, "Show the version", groupHull, false, versionCommand},
		{"hello", "[exit N]", 0, 2, "Show what a program sees of its world (what the image hello runs)", groupHull, false, helloCommand},
		{"completion", "bash|zsh|fish", 1, 1, "Print a script that completes commands in a shell", groupHull, false, completionCommand},
	}
}

// findVerb finds the command that words begin with, and what follows it. No verb and no error is a group alone ("hull image").
func findVerb(words []string) (*verb, []string, error) {
	verbs := table()
	group := isGroup(verbs, words[0])
	spelling := words[0]
	rest := words[1:]
	if group {
		if len(rest) == 0 || strings.HasPrefix(rest[0], "-") {
			return nil, nil, groupAlone(words[0], rest)
		}
		spelling, rest = spelling+" "+rest[0], rest[1:]
	}
	for i := range verbs {
		if hasName(verbs[i].names, spelling) {
			return &verbs[i], rest, nil
		}
	}
	return nil, nil, unknownCommand(verbs, spelling)
}

// groupAlone allows no more than a plea for help after the name of a group.
func groupAlone(group string, rest []string) error {
	_, err := splitArgs(rest, nil, true)
	if _, help := err.(errHelp); help {
		return nil
	}
	return hint(err, group)
}

// hasName tells whether names, with "|" between them, hold name.
func hasName(names, name string) bool {
	for n := range strings.SplitSeq(names, "|") {
		if n == name {
			return true
		}
	}
	return false
}

// isGroup tells whether word is the first of a spelling of two words.
func isGroup(verbs []verb, word string) bool {
	for i := range verbs {
		for n := range strings.SplitSeq(verbs[i].names, "|") {
			if first, _, two := strings.Cut(n, " "); two && first == word {
				return true
			}
		}
	}
	return false
}

func unknownCommand(verbs []verb, spelling string) error {
	err := &ExitError{Code: exitFailed, Err: errUnknown(spelling), Hint: readOn("")}
	var names []string
	for i := range verbs {
		names = append(names, strings.Split(verbs[i].names, "|")...)
	}
	if near := nearest(names, spelling); near != "" {
		err.Near = "hull " + near
	}
	return err
}

type errUnknown string

func (e errUnknown) Error() string { return "unknown command: hull " + string(e) }

// nearest is the one most like word by Jaro and Winkler's measure, "" where none is much like it.
func nearest(names []string, word string) string {
	best, name := 0.8, ""
	for _, n := range names {
		if d := smetrics.JaroWinkler(n, word, 0.7, 4); d > best {
			best, name = d, n
		}
	}
	return name
}
