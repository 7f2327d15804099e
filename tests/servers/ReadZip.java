import java.io.BufferedInputStream;
import java.io.FileInputStream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipInputStream;

/** Reads a ZIP as a stream, by its local headers alone, and counts its files: the strictest of the common readers. */
public class ReadZip {
    public static void main(String[] arguments) throws Exception {
        byte[] some = new byte[1 << 16];
        int count = 0;
        try (ZipInputStream zip = new ZipInputStream(new BufferedInputStream(new FileInputStream(arguments[0]), 1 << 16))) {
            for (ZipEntry entry = zip.getNextEntry(); entry != null; entry = zip.getNextEntry()) {
                long length = 0;
                for (int read = zip.read(some); read >= 0; read = zip.read(some)) {
                    length += read;
                }
                if (entry.getSize() != length) {
                    throw new IllegalStateException(entry.getName() + ": " + entry.getSize() + " is said, " + length + " are there");
                }
                count++;
            }
        }
        System.out.println(count);
    }
}
