# shellcheck shell=bash
# Two servers of MongoDB's protocol, since no package registry has MongoDB's own: FerretDB on SQLite, and mongo-java-server
# in memory with a journal of ours.

MONGO_JAVA_VERSION=1.47.0

ferretdb_install() { # name
  local source=$PARTS/ferretdb
  FERRETDB=$DOWNLOADS/ferretdb-$(cat "$source"/{main.go,go.mod,go.sum} | cksum | cut -d' ' -f1)
  [[ -d $FERRETDB ]] || need_go 1.24
  need openssl
  download "$FERRETDB" "FerretDB" ferretdb_build "$source"
}

ferretdb_build() { # source
  local folder=$PWD
  cd "$1" && CGO_ENABLED=0 "$GO" build -mod=readonly -trimpath -ldflags '-s -w' -o "$folder/ferretdb" .
}

ferretdb_prepare() { # name
  [[ $1 != *secure* ]] || die "FerretDB comes without TLS here: take mongo-java-secure" 2
  [[ -z $(settings "$1") ]] || die "FerretDB has no settings here" 2
  mkdir "$DIR/$1/data"
  echo "MONGODB 127.0.0.1:$(free_port)" > "$DIR/$1/listeners"
}

ferretdb_run() { detached "$FERRETDB/ferretdb" "$(listener "$1" MONGODB)" "$DIR/$1/data"; }
ferretdb_answers() { mongo_answers "$1"; }
ferretdb_url() { mongo_url "$1"; }

mongo_java_install() { # name
  local source=$PARTS/mongo-java/MongoJava.java version=$MONGO_JAVA_VERSION
  need_java 17; MONGO_JAVA=$(java_home 17)
  MONGO_JAVA_JARS=$DOWNLOADS/mongo-java-$version-$(cksum < "$source" | cut -d' ' -f1)
  [[ -d $MONGO_JAVA_JARS ]] || need javac openjdk-17-jdk-headless
  need openssl
  download "$MONGO_JAVA_JARS" "mongo-java-server $version" mongo_java_build "$source" "de.bwaldvogel:mongo-java-server:$version" \
    org.slf4j:slf4j-simple:2.0.17
}

mongo_java_build() { # source group:artifact:version...
  jars "${@:2}" && javac --release 17 -cp '*' -d . "$1"
}

mongo_java_prepare() { # name
  local listener=MONGODB
  if [[ $1 == *secure* ]]; then certificates; listener=MONGODB_TLS; fi
  mkdir "$DIR/$1/data"
  echo "$listener 127.0.0.1:$(free_port)" > "$DIR/$1/listeners"
}

mongo_java_run() { # name
  local listener address setting settings=() heap=${SDL_STACK_HEAP:-512m}
  read -r listener address < "$DIR/$1/listeners"
  [[ $listener == MONGODB ]] || settings=("tls.certificate=$DIR/tls/server.pem" "tls.key=$DIR/tls/server.key")
  while read -r setting; do
    if [[ $setting == heap=* ]]; then heap=${setting#*=}; else settings+=("$setting"); fi
  done < <(settings "$1")
  detached "$MONGO_JAVA/bin/java" -Xmx"$heap" "${JVM[@]}" -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "$MONGO_JAVA_JARS:$MONGO_JAVA_JARS/*" MongoJava "${address#*:}" "$DIR/$1/data" "${settings[@]}"
}

mongo_java_answers() { mongo_answers "$1"; }
mongo_java_url() { mongo_url "$1"; }

mongo_url() { # name
  local listener address; read -r listener address < "$DIR/$1/listeners"
  [[ $listener == MONGODB ]] || address+="/?tls=true&tlsCAFile=$DIR/tls/ca.pem"
  echo "mongodb://$address"
}

# Sends `{ping: 1, $db: "admin"}` as MongoDB's protocol has it; the answer has an `ok`.
# shellcheck disable=SC2016,SC2059
mongo_answers() { # name
  local listener address ping='\x33\0\0\0\1\0\0\0\0\0\0\0\xdd\x07\0\0\0\0\0\0\0\x1e\0\0\0\x10ping\0\1\0\0\0\2$db\0\6\0\0\0admin\0\0'
  read -r listener address < "$DIR/$1/listeners"
  if [[ $listener == MONGODB ]]; then
    timeout 5 bash -c 'exec 3<> "/dev/tcp/${0/://}" && printf "$1" >&3 && grep -qaz ok <&3' "$address" "$ping" 2> /dev/null
  else
    { printf "$ping"; sleep 0.5; } | timeout 5 openssl s_client -quiet -no_ign_eof -connect "$address" 2> /dev/null | grep -qaz ok
  fi
}
