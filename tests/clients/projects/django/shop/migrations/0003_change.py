import django.contrib.postgres.fields
import django.contrib.postgres.indexes
import django.db.models.deletion
import django.db.models.functions
from django.db import migrations, models


def join_names(apps, editor):
    for customer in apps.get_model("shop", "Customer").objects.order_by("pk"):
        customer.full_name = f"{customer.first} {customer.last}"
        customer.save(update_fields=["full_name"])


class Migration(migrations.Migration):
    """Nearly every operation that there is, with rows in the tables."""

    dependencies = [("shop", "0002_rows")]
    operations = [
        migrations.RenameModel("Label", "Tag"),
        migrations.RenameField("Tag", "text", "name"),
        migrations.AlterField(
            "Tag", "name", models.CharField(max_length=40, unique=True, db_comment="as people write it")
        ),
        migrations.AlterModelTableComment("Tag", "words"),
        migrations.RenameField("Product", "labels", "tags"),
        migrations.AddField("Customer", "full_name", models.CharField(max_length=80, default="")),
        migrations.RunPython(join_names, migrations.RunPython.noop),
        migrations.AlterField("Customer", "full_name", models.CharField(max_length=80)),
        migrations.AlterUniqueTogether("Customer", set()),
        migrations.RemoveField("Customer", "first"),
        migrations.RemoveField("Customer", "last"),
        migrations.AlterField("Customer", "email", models.EmailField(max_length=254, unique=True)),
        migrations.AddField("Customer", "settings", models.JSONField(default=dict)),
        migrations.AddField("Customer", "score", models.DecimalField(max_digits=12, decimal_places=3, default=0)),
        migrations.AlterField("Product", "title", models.TextField()),
        migrations.AddField(
            "Product",
            "words",
            django.contrib.postgres.fields.ArrayField(models.CharField(max_length=20), default=list),
        ),
        migrations.AddField(
            "Product",
            "upper",
            models.GeneratedField(
                expression=django.db.models.functions.Upper("title"), output_field=models.TextField(), db_persist=True
            ),
        ),
        migrations.AlterField(
            "Purchase", "id", models.BigAutoField("ID", auto_created=True, primary_key=True, serialize=False)
        ),
        migrations.AlterField("Purchase", "number", models.PositiveIntegerField()),
        migrations.AlterField(
            "Purchase",
            "customer",
            models.ForeignKey("shop.customer", django.db.models.deletion.CASCADE, related_name="purchases"),
        ),
        migrations.AddField("Purchase", "paid", models.BooleanField(default=False)),
        migrations.DeleteModel("Passing"),
        migrations.AddConstraint(
            "Customer", models.CheckConstraint(condition=models.Q(score__gte=0), name="score_not_negative")
        ),
        migrations.AddConstraint(
            "Purchase",
            models.UniqueConstraint(
                fields=["customer", "product"], condition=models.Q(paid=False), name="one_open_purchase"
            ),
        ),
        migrations.AddConstraint(
            "Purchase",
            models.UniqueConstraint(
                fields=["customer", "number"], name="numbered", deferrable=models.Deferrable.DEFERRED
            ),
        ),
        migrations.AddIndex(
            "Customer", models.Index(django.db.models.functions.Lower("full_name"), name="customer_lower")
        ),
        migrations.RenameIndex("Customer", new_name="customer_lower_name", old_name="customer_lower"),
        migrations.AddIndex(
            "Product", django.contrib.postgres.indexes.GinIndex(fields=["words"], name="product_words")
        ),
        migrations.RunSQL(
            ["CREATE VIEW shop_open AS SELECT customer_id, number FROM shop_purchase WHERE NOT paid"],
            ["DROP VIEW shop_open"],
        ),
    ]
