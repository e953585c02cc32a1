import de.bwaldvogel.mongo.MongoServer;
import de.bwaldvogel.mongo.MongoVersion;
import de.bwaldvogel.mongo.backend.memory.MemoryBackend;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerException;
import de.bwaldvogel.mongo.wire.bson.BsonDecoder;
import de.bwaldvogel.mongo.wire.bson.BsonEncoder;
import de.bwaldvogel.mongo.wire.message.MessageHeader;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.embedded.EmbeddedChannel;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.security.KeyFactory;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** Serves MongoDB's protocol on 127.0.0.1: MongoJava PORT FOLDER [forget.ms=N] [tls.certificate=FILE tls.key=FILE]. */
public class MongoJava {
    /** The newest that the library knows is a release which drivers of today refuse. */
    private static final MongoVersion VERSION = new MongoVersion() {
        @Override
        public List<Integer> getVersionArray() {
            return List.of(7, 0, 0);
        }

        @Override
        public int getWireVersion() {
            return 21;
        }
    };

    /** A backend in memory whose writes are in a file too before they are acknowledged, and are done again at the next start. */
    private static class Journaled extends MemoryBackend {
        private static final Set<String> WRITES = Set.of("insert", "update", "delete", "findAndModify", "findandmodify", "create",
                "createIndexes", "dropIndexes", "drop", "dropDatabase", "renameCollection");
        private final FileChannel file;
        private final boolean atOnce;
        private ByteBuf pending = Unpooled.buffer();

        Journaled(Path path, boolean atOnce) throws IOException {
            this.atOnce = atOnce;
            file = FileChannel.open(path, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
            Channel nobody = new EmbeddedChannel();
            ByteBuffer length = ByteBuffer.allocate(4).order(ByteOrder.LITTLE_ENDIAN);
            long end = 0;
            while (filled(length.clear(), end)) {
                ByteBuffer write = ByteBuffer.allocate(length.getInt(0));
                if (!filled(write, end)) {
                    break;
                }
                MongoMessage again = new MongoMessage(nobody, new MessageHeader(0, 0), BsonDecoder.decodeBson(Unpooled.wrappedBuffer(write.flip())));
                try {
                    super.handleMessage(again);
                } catch (MongoServerException refused) {                 // as it was then
                }
                end += write.limit();
            }
            file.truncate(end).position(end);                            // a kill may have cut the last write, which was not acknowledged
        }

        private boolean filled(ByteBuffer buffer, long from) throws IOException {
            while (buffer.hasRemaining()) {
                if (file.read(buffer, from + buffer.position()) < 0) {
                    return false;
                }
            }
            return true;
        }

        @Override
        public Document handleMessage(MongoMessage message) {
            if (!WRITES.contains(message.getDocument().keySet().iterator().next())) {
                return super.handleMessage(message);
            }
            synchronized (this) {                                        // the file has the order in which they were done
                BsonEncoder.encodeDocument(message.getDocument(), pending);
                Document answer = super.handleMessage(message);
                if (atOnce) {
                    write();
                }
                return answer;
            }
        }

        synchronized void write() {
            try {
                for (ByteBuffer bytes = pending.nioBuffer(); bytes.hasRemaining();) {
                    file.write(bytes);
                }
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            pending = atOnce ? pending.clear() : Unpooled.buffer();
        }
    }

    public static void main(String[] arguments) throws Exception {
        Map<String, String> settings = new HashMap<>();
        for (String setting : List.of(arguments).subList(2, arguments.length)) {
            String name = setting.substring(0, setting.indexOf('='));
            if (!Set.of("forget.ms", "tls.certificate", "tls.key").contains(name)) {
                throw new IllegalArgumentException("unknown setting `" + name + "`");
            }
            settings.put(name, setting.substring(name.length() + 1));
        }
        String forget = settings.get("forget.ms");
        Journaled backend = new Journaled(Path.of(arguments[1], "journal.bson"), forget == null);
        MongoServer server = new MongoServer(backend.version(VERSION));
        if (settings.containsKey("tls.key")) {
            secure(server, Path.of(settings.get("tls.certificate")), Path.of(settings.get("tls.key")));
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            server.shutdownNow();
            backend.write();
        }));
        server.bind("127.0.0.1", Integer.parseInt(arguments[0]));
        while (forget != null) {
            Thread.sleep(Long.parseLong(forget));
            backend.write();
        }
    }

    private static void secure(MongoServer server, Path certificate, Path key) throws Exception {
        byte[] encoded = Base64.getMimeDecoder().decode(Files.readString(key).replaceAll("-----[^-]+-----", ""));
        server.enableSsl(
                KeyFactory.getInstance("RSA").generatePrivate(new PKCS8EncodedKeySpec(encoded)),
                null,
                (X509Certificate) CertificateFactory.getInstance("X.509")
                        .generateCertificate(new ByteArrayInputStream(Files.readAllBytes(certificate))));
    }
}
